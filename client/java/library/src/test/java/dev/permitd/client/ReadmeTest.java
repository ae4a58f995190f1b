package dev.permitd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The README's programs are compiled and run as they stand, against the real server and the simulated provider. */
@Timeout(60)
class ReadmeTest {
    private static final Pattern PROGRAM = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL);
    private static final Pattern NAME = Pattern.compile("public class (\\w+)");

    private static final String CONFIG =
            "[budgets.\"anthropic/prod\"]\nlimits = [\"in_flight=1\", \"input_tokens=100k/1m\"]\n";

    @TempDir
    private Path folder;

    /** Goal: what the README shows works. */
    @Test
    void programsRun() throws Exception {
        try (Permitd server = Permitd.start(CONFIG);
                Permitd provider = Permitd.simulate("--latency-median-ms", "1")) {
            List<String> said = new ArrayList<>();
            Matcher programs = PROGRAM.matcher(Files.readString(Path.of("../README.md")));
            while (programs.find()) {
                said.add(run(programs.group(1)
                        .replace("http://127.0.0.1:7110", server.endpoint())
                        .replace("https://api.anthropic.com", provider.endpoint())));
            }
            assertEquals(List.of("Reply[input=812, output=96]", "200"), said);
        }
    }

    private String run(String program) throws Exception {
        Matcher name = NAME.matcher(program);
        assertTrue(name.find(), program);
        Path source = Files.writeString(folder.resolve(name.group(1) + ".java"), program);
        ByteArrayOutputStream complaints = new ByteArrayOutputStream();
        int compiled = ToolProvider.getSystemJavaCompiler()
                .run(null, null, complaints, "-d", folder.toString(), "-cp", System.getProperty("java.class.path"), source.toString());
        assertEquals(0, compiled, complaints.toString(StandardCharsets.UTF_8));
        PrintStream out = System.out;
        ByteArrayOutputStream said = new ByteArrayOutputStream();
        try (URLClassLoader loader = new URLClassLoader(new URL[] {folder.toUri().toURL()})) {
            System.setOut(new PrintStream(said, true, StandardCharsets.UTF_8));
            loader.loadClass(name.group(1)).getMethod("main", String[].class).invoke(null, (Object) new String[0]);
        } finally {
            System.setOut(out);
        }
        return said.toString(StandardCharsets.UTF_8).strip();
    }
}
