package dev.permitd.client.http;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import dev.permitd.client.Usage;
import java.math.BigInteger;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/**
 * Reads what a response says was used, while it passes by: from a JSON body, or from each event of a stream ({@code
 * text/event-stream}), where what a later event says of a number replaces what an earlier one said. What is no such number counts as
 * absent. Not for several threads at once.
 */
public final class UsageReader {
    /** Where usage stands, alone and in streams: OpenAI's and Anthropic's, and Gemini's. */
    private static final List<List<String>> PLACES = List.of(
            List.of("usage"), List.of("response", "usage"), List.of("message", "usage"), List.of("usageMetadata"));

    /** Numbers that are looked at, by where they stand within the usage. */
    private static final List<List<String>> NUMBERS = List.of(
            List.of("prompt_tokens"),
            List.of("completion_tokens"),
            List.of("prompt_tokens_details", "cached_tokens"),
            List.of("input_tokens"),
            List.of("output_tokens"),
            List.of("input_tokens_details", "cached_tokens"),
            List.of("cache_creation_input_tokens"),
            List.of("cache_read_input_tokens"),
            List.of("promptTokenCount"),
            List.of("candidatesTokenCount"),
            List.of("thoughtsTokenCount"),
            List.of("cachedContentTokenCount"));

    private final Documents documents;

    /** The latest of each number, by its own name or, for details, its path. */
    private final Map<String, BigInteger> told = new HashMap<>();

    /** Of a response with this {@code content-type}; null if it has none. */
    public UsageReader(String contentType) {
        String type = contentType == null ? "" : contentType.trim().toLowerCase(Locale.ROOT);
        this.documents = type.startsWith("text/event-stream") ? new Documents.Stream() : new Documents.Whole();
    }

    /** The next bytes of the body. */
    public void add(byte[] bytes, int offset, int length) {
        documents.add(bytes, offset, length, this::read);
    }

    /** What was told, once the body has ended; empty if nothing was. */
    public Usage end() {
        documents.end(this::read);
        Usage usage = Usage.none();
        usage = with(usage, "input_tokens", input());
        usage = with(usage, "output_tokens", output());
        return with(usage, "cached_input_tokens", cached().filter(amount -> amount.signum() > 0));
    }

    private void read(String text) {
        Json.parse(text).ifPresent(this::read);
    }

    private void read(JsonElement document) {
        if (document instanceof JsonArray events) {
            // How Gemini streams where nobody asked for server-sent events.
            events.forEach(this::read);
            return;
        }
        PLACES.forEach(place -> note(Json.at(document, place)));
    }

    private void note(JsonElement usage) {
        if (usage instanceof JsonObject) {
            for (List<String> number : NUMBERS) {
                Json.amount(Json.at(usage, number)).ifPresent(amount -> told.put(String.join(".", number), amount));
            }
        }
    }

    /** Anthropic does not count what it writes to and reads from its cache among its {@code input_tokens}. */
    private Optional<BigInteger> input() {
        Optional<BigInteger> beside = number("input_tokens")
                .map(input -> sum(input, "cache_creation_input_tokens", "cache_read_input_tokens"));
        return beside.or(() -> number("prompt_tokens")).or(() -> number("promptTokenCount"));
    }

    /** An embedding has no output, which is known and not open. */
    private Optional<BigInteger> output() {
        return number("output_tokens")
                .or(() -> number("completion_tokens"))
                .or(() -> number("prompt_tokens").map(input -> BigInteger.ZERO))
                .or(() -> number("candidatesTokenCount").map(output -> sum(output, "thoughtsTokenCount")));
    }

    private Optional<BigInteger> cached() {
        return number("cache_read_input_tokens")
                .or(() -> number("input_tokens_details.cached_tokens"))
                .or(() -> number("prompt_tokens_details.cached_tokens"))
                .or(() -> number("cachedContentTokenCount"));
    }

    private Optional<BigInteger> number(String name) {
        return Optional.ofNullable(told.get(name));
    }

    private BigInteger sum(BigInteger first, String... names) {
        BigInteger sum = first;
        for (String name : names) {
            sum = sum.add(told.getOrDefault(name, BigInteger.ZERO));
        }
        return sum.min(Json.AMOUNT_MAX);
    }

    private static Usage with(Usage usage, String unit, Optional<BigInteger> amount) {
        return amount.map(known -> usage.amount(unit, known)).orElse(usage);
    }
}
