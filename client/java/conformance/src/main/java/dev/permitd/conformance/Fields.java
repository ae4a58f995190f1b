package dev.permitd.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.permitd.client.Outcome;
import dev.permitd.client.Priority;
import dev.permitd.client.Report;
import dev.permitd.client.Request;
import dev.permitd.client.Usage;
import java.math.BigInteger;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;

/** The fields of a command. Absent and null are the same. */
record Fields(JsonObject json) {
    static Fields parse(String line) {
        return new Fields(JsonParser.parseString(line).getAsJsonObject());
    }

    String text(String name) {
        return optional(name, JsonElement::getAsString).orElse("");
    }

    Optional<String> optionalText(String name) {
        return optional(name, JsonElement::getAsString);
    }

    Optional<Integer> number(String name) {
        return optional(name, JsonElement::getAsInt);
    }

    Optional<Duration> millis(String name) {
        return optional(name, JsonElement::getAsLong).map(Duration::ofMillis);
    }

    List<String> texts(String name) {
        List<String> texts = new ArrayList<>();
        json.getAsJsonArray(name).forEach(text -> texts.add(text.getAsString()));
        return texts;
    }

    List<Fields> all(String name) {
        List<Fields> all = new ArrayList<>();
        json.getAsJsonArray(name).forEach(item -> all.add(new Fields(item.getAsJsonObject())));
        return all;
    }

    boolean isTrue(String name) {
        return optional(name, JsonElement::getAsBoolean).orElse(false);
    }

    /** By the names that the command gives them. */
    Map<String, String> headers() {
        Map<String, String> headers = new LinkedHashMap<>();
        optional("headers", JsonElement::getAsJsonObject)
                .ifPresent(all -> all.entrySet()
                        .forEach(header -> headers.put(header.getKey(), header.getValue().getAsString())));
        return headers;
    }

    /** What an acquire asks for. */
    Request request() {
        Request request = Request.of(text("provider"), text("key")).model(text("model")).tenant(text("tenant"));
        Optional<Usage> estimate = usage();
        if (estimate.isPresent()) {
            request = request.estimate(estimate.get());
        }
        Optional<String> priority = optionalText("priority");
        if (priority.isPresent()) {
            request = request.priority(Priority.valueOf(priority.get().toUpperCase(Locale.ROOT)));
        }
        Optional<Duration> maxWait = millis("max_wait_ms");
        if (maxWait.isPresent()) {
            request = request.maxWait(maxWait.get());
        }
        Optional<Duration> deadline = millis("deadline_ms");
        return deadline.isPresent() ? request.timeout(deadline.get()) : request;
    }

    /** What a report says. */
    Report report() {
        Optional<String> outcome = optionalText("outcome").filter(name -> !name.isEmpty());
        Report report = Report.status(number("status").orElse(0));
        if (outcome.isPresent()) {
            report = Report.of(Outcome.valueOf(outcome.get().toUpperCase(Locale.ROOT)));
        }
        for (var header : headers().entrySet()) {
            report = report.header(header.getKey(), header.getValue());
        }
        Optional<String> body = optionalText("body");
        if (body.isPresent()) {
            report = report.body(body.get());
        }
        Optional<Duration> wait = millis("retry_after_ms");
        if (wait.isPresent()) {
            report = report.retryAfter(wait.get());
        }
        return usage().map(report::actual).orElse(report);
    }

    /** Of {@code usage}, or of {@code tokens} alone. */
    private Optional<Usage> usage() {
        Optional<JsonObject> units = optional("usage", JsonElement::getAsJsonObject);
        if (units.isEmpty()) {
            return optionalText("tokens").map(amount -> Usage.none().amount("tokens", new BigInteger(amount)));
        }
        Usage usage = Usage.none();
        for (var unit : units.get().entrySet()) {
            if (unit.getValue().isJsonObject()) {
                for (var other : unit.getValue().getAsJsonObject().entrySet()) {
                    usage = usage.amount(other.getKey(), other.getValue().getAsBigInteger());
                }
            } else if (!unit.getValue().isJsonNull()) {
                usage = usage.amount(unit.getKey(), unit.getValue().getAsBigInteger());
            }
        }
        return Optional.of(usage);
    }

    private <T> Optional<T> optional(String name, Function<JsonElement, T> read) {
        JsonElement value = json.get(name);
        return value == null || value.isJsonNull() ? Optional.empty() : Optional.of(read.apply(value));
    }
}
