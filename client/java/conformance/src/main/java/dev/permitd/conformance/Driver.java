package dev.permitd.conformance;

import com.google.gson.JsonObject;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;

/**
 * Reads commands from stdin and writes events to stdout, as <a href="../../../../../../../../conformance/README.md">the suite</a> has
 * them. Ends with 0 after {@code close}, or the end of stdin.
 */
public final class Driver {
    private Driver() {}

    /** Takes no arguments. */
    public static void main(String[] arguments) throws InterruptedException {
        try {
            drive(new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)), new Events(System.out));
        } catch (IOException | RuntimeException problem) {
            // What the library has running would keep the process from ending.
            problem.printStackTrace();
            System.exit(1);
        }
        System.exit(0);
    }

    private static void drive(BufferedReader commands, Events events) throws IOException, InterruptedException {
        Application application = new Application(events);
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            Fields command = Fields.parse(line);
            if (command.text("op").equals("close")) {
                break;
            }
            run(application, events, command);
        }
        application.close();
    }

    private static void run(Application application, Events events, Fields command) {
        String op = command.text("op");
        switch (op) {
            case "connect" -> application.connect(command);
            case "acquire" -> application.acquire(command);
            case "several" -> application.several(command);
            case "cancel" -> application.cancel(command.text("id"));
            case "drop" -> application.drop(command.text("id"));
            case "report" -> application.report(command);
            case "call" -> application.call(command);
            case "many" -> application.many(command);
            case "http" -> application.http(command);
            case "estimate" -> events.write(Reading.estimate(command));
            case "usage" -> events.write(Reading.usage(command));
            default -> {
                JsonObject event = Events.event("unknown");
                event.addProperty("op", op);
                events.write(event);
            }
        }
    }
}
