package dev.permitd.conformance;

import com.google.gson.JsonObject;
import dev.permitd.client.Usage;
import dev.permitd.client.http.TokenEstimate;
import dev.permitd.client.http.UsageReader;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.Optional;

/** What the adapters read, without a server. */
final class Reading {
    private Reading() {}

    static JsonObject estimate(Fields command) {
        Optional<TokenEstimate> estimate = TokenEstimate.of(command.text("body").getBytes(StandardCharsets.UTF_8));
        JsonObject event = Events.event("estimated", command.text("id"));
        Usage usage = estimate.map(TokenEstimate::usage).orElse(Usage.none());
        add(event, usage, "input_tokens");
        add(event, usage, "max_output_tokens");
        event.addProperty("model", estimate.map(TokenEstimate::model).orElse(""));
        return event;
    }

    static JsonObject usage(Fields command) {
        Usage usage = Usage.none();
        if (command.number("status").orElse(200) < 400) {
            UsageReader reader = new UsageReader(contentType(command));
            byte[] body = command.text("body").getBytes(StandardCharsets.UTF_8);
            // As it comes over a network: in pieces, wherever they are cut.
            for (byte piece : body) {
                reader.add(new byte[] {piece}, 0, 1);
            }
            usage = reader.end();
        }
        JsonObject event = Events.event("used", command.text("id"));
        add(event, usage, "input_tokens");
        add(event, usage, "output_tokens");
        add(event, usage, "cached_input_tokens");
        return event;
    }

    private static String contentType(Fields command) {
        return command.headers().entrySet().stream()
                .filter(header -> header.getKey().equalsIgnoreCase("content-type"))
                .map(header -> header.getValue())
                .findFirst()
                .orElse(null);
    }

    private static void add(JsonObject event, Usage usage, String unit) {
        BigInteger amount = usage.amounts().get(unit);
        event.addProperty(unit, amount == null ? null : amount.toString());
    }
}
