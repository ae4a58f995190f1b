package dev.permitd.client;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A real server on a free port of loopback, for tests. */
public final class Permitd implements AutoCloseable {
    private static final Pattern ANNOUNCED = Pattern.compile("127\\.0\\.0\\.1:\\d+");

    private final Process process;
    private final String address;

    private Permitd(Process process, String address) {
        this.process = process;
        this.address = address;
    }

    /** With this configuration, and no state that outlasts it. */
    public static Permitd start(String config) throws IOException {
        return startAt("127.0.0.1:0", config);
    }

    /** Also where another one was before. */
    public static Permitd startAt(String address, String config) throws IOException {
        Path file = Files.createTempFile("permitd", ".toml");
        Files.writeString(file, config);
        return run(binary("PERMITD_BIN", "permitd"), "serve", "--listen", address, "--http", "off", "--data", "none",
                "--config", file.toString());
    }

    /** A simulated provider. */
    public static Permitd simulate(String... arguments) throws IOException {
        List<String> command = new ArrayList<>(List.of(binary("PERMITD_LAB_BIN", "permitd-lab"), "provider"));
        command.addAll(List.of(arguments));
        return run(command.toArray(String[]::new));
    }

    private static Permitd run(String... command) throws IOException {
        Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        BufferedReader out = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
        String announcement = out.readLine();
        Matcher matcher = ANNOUNCED.matcher(String.valueOf(announcement));
        if (!matcher.find()) {
            process.destroyForcibly();
            throw new IOException(command[0] + " did not say where it listens but: " + announcement);
        }
        return new Permitd(process, matcher.group());
    }

    private static String binary(String variable, String name) {
        String named = System.getenv(variable);
        if (named != null) {
            return named;
        }
        Path built = Path.of("../../../target/debug", name).toAbsolutePath().normalize();
        if (!Files.isExecutable(built)) {
            throw new IllegalStateException(built + " is not there; build it with cargo, or set " + variable);
        }
        return built.toString();
    }

    /** {@code HOST:PORT}. */
    public String address() {
        return address;
    }

    /** {@code http://HOST:PORT}. */
    public String endpoint() {
        return "http://" + address;
    }

    /** As {@code kill -9}, and waits for it to be gone. */
    @Override
    public void close() {
        try {
            process.destroyForcibly().waitFor();
        } catch (InterruptedException hurry) {
            Thread.currentThread().interrupt();
        }
    }
}
