package dev.permitd.conformance;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import dev.permitd.client.Advice;
import dev.permitd.client.Guard;
import dev.permitd.client.PermitException;
import dev.permitd.client.Usage;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Locale;
import java.util.Optional;

/** Writes what happens, one object in a line. From any thread. */
final class Events {
    private static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

    private final PrintStream out;

    Events(PrintStream out) {
        this.out = new PrintStream(out, true, StandardCharsets.UTF_8);
    }

    static JsonObject event(String name) {
        JsonObject event = new JsonObject();
        event.addProperty("event", name);
        return event;
    }

    static JsonObject event(String name, String id) {
        JsonObject event = event(name);
        event.addProperty("id", id);
        return event;
    }

    synchronized void write(JsonObject event) {
        out.println(GSON.toJson(event));
    }

    void granted(String id, Guard guard) {
        JsonObject event = event("granted", id);
        event.addProperty("from", guard.permit().source().name().toLowerCase(Locale.ROOT));
        event.add("charged", charged(guard.permit().charged()));
        write(event);
    }

    /** As the wire has it: units without a field of their own stand in {@code other}. */
    private static JsonObject charged(Usage usage) {
        JsonObject charged = new JsonObject();
        JsonObject other = new JsonObject();
        usage.amounts().forEach((unit, amount) ->
                (usage.others().containsKey(unit) ? other : charged).addProperty(unit, amount.toString()));
        if (other.size() > 0) {
            charged.add("other", other);
        }
        return charged;
    }

    void refused(String id, PermitException problem) {
        JsonObject event = event("refused", id);
        event.addProperty("code", problem.code());
        event.addProperty("reason", problem.reason());
        event.addProperty("limit", problem.limit().orElse(""));
        event.addProperty("retry_after_ms", millis(problem.retryAfter()));
        event.addProperty("message", problem.getMessage());
        write(event);
    }

    void failed(String id, PermitException problem) {
        JsonObject event = id == null ? event("failed") : event("failed", id);
        event.addProperty("code", problem.code());
        event.addProperty("reason", problem.reason());
        event.addProperty("message", problem.getMessage());
        write(event);
    }

    void reported(String id, Advice advice) {
        JsonObject event = event("reported", id);
        event.addProperty("outcome", advice.outcome().name().toLowerCase(Locale.ROOT));
        event.addProperty("settled", advice.settled());
        event.addProperty("retry", advice.retry());
        event.addProperty("retry_after_ms", millis(advice.retryAfter()));
        write(event);
    }

    /** Rounded up. */
    private static Long millis(Optional<Duration> span) {
        return span.map(wait -> (wait.toNanos() + 999_999) / 1_000_000).orElse(null);
    }
}
