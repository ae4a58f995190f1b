package dev.permitd.client.http;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import dev.permitd.client.Usage;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * What a request is expected to use, as far as its JSON body tells: guessed well enough to queue for, and settled by what the answer
 * says was used.
 *
 * @param usage the input, and a bound on the output if the body has one
 * @param model the body's {@code model}; empty if it has none
 */
public record TokenEstimate(Usage usage, String model) {
    /**
     * English has four characters to a token, and scripts of three bytes a character come near to one token each: in UTF-8, both are
     * about four bytes. The providers' own rule of thumb.
     */
    private static final long BYTES_PER_TOKEN = 4;

    /**
     * What an image, a sound or a document counts, whatever its bytes: about the most that providers charge for one image.
     */
    private static final long ATTACHMENT_TOKENS = 1_600;

    /** Where providers look for the bound of the output; the first that is there counts. */
    private static final List<List<String>> OUTPUT_BOUNDS = List.of(
            List.of("max_completion_tokens"),
            List.of("max_tokens"),
            List.of("max_output_tokens"),
            List.of("max_tokens_to_sample"),
            List.of("generationConfig", "maxOutputTokens"));

    /** How many answers are asked for, each of which can be as long as the bound. */
    private static final List<String> CHOICES = List.of("n", "best_of");

    /** Names beside a {@code data} that is no text. */
    private static final List<String> MEDIA = List.of("format", "media_type", "mimeType", "mime_type");

    /** Reads a body. Of one that is no JSON nothing is known. */
    public static Optional<TokenEstimate> of(byte[] body) {
        Objects.requireNonNull(body, "body");
        return Json.parse(new String(body, StandardCharsets.UTF_8)).map(TokenEstimate::of);
    }

    private static TokenEstimate of(JsonElement body) {
        Content content = new Content();
        content.add(body);
        Usage usage = Usage.none().inputTokens(content.tokens());
        Optional<BigInteger> bound = OUTPUT_BOUNDS.stream()
                .map(path -> Json.amount(Json.at(body, path)))
                .flatMap(Optional::stream)
                .findFirst();
        if (bound.isPresent()) {
            usage = usage.amount("max_output_tokens", bound.get().multiply(choices(body)).min(Json.AMOUNT_MAX));
        }
        JsonElement model = Json.at(body, List.of("model"));
        boolean isNamed = model instanceof JsonPrimitive name && name.isString();
        return new TokenEstimate(usage, isNamed ? model.getAsString() : "");
    }

    private static BigInteger choices(JsonElement body) {
        return CHOICES.stream()
                .map(name -> Json.amount(Json.at(body, List.of(name))))
                .flatMap(Optional::stream)
                .reduce(BigInteger.ONE, BigInteger::max);
    }

    /** What stands in a body. Nests no deeper than what {@link Json} takes. */
    private static final class Content {
        private long textBytes;
        /** Input that comes as tokens already: numbers in arrays. */
        private long tokens;
        private long attachments;

        void add(JsonElement value) {
            if (value instanceof JsonObject fields) {
                addFields(fields);
            } else if (value instanceof JsonArray items) {
                for (JsonElement item : items) {
                    tokens += item instanceof JsonPrimitive primitive && primitive.isNumber() ? 1 : 0;
                    add(item);
                }
            } else if (value instanceof JsonPrimitive primitive && primitive.isString()) {
                String text = primitive.getAsString();
                if (text.startsWith("data:")) {
                    attachments++;
                } else {
                    textBytes += text.getBytes(StandardCharsets.UTF_8).length;
                }
            }
        }

        private void addFields(JsonObject fields) {
            boolean isMedia = MEDIA.stream().anyMatch(fields::has);
            for (var field : fields.entrySet()) {
                boolean isString = field.getValue() instanceof JsonPrimitive primitive && primitive.isString();
                if (isMedia && isString && field.getKey().equals("data")) {
                    attachments++;
                } else {
                    add(field.getValue());
                }
            }
        }

        long tokens() {
            return Math.max(1, textBytes / BYTES_PER_TOKEN + tokens + attachments * ATTACHMENT_TOKENS);
        }
    }
}
