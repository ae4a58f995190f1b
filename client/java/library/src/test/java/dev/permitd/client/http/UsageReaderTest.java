package dev.permitd.client.http;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.permitd.client.Usage;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

/** What a response says was used, in every provider's words, whole and in pieces. */
class UsageReaderTest {
    private static final String STREAM = "text/event-stream; charset=utf-8";

    private static Usage read(String type, String body) {
        byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
        UsageReader whole = new UsageReader(type);
        whole.add(bytes, 0, bytes.length);
        UsageReader pieces = new UsageReader(type);
        for (int at = 0; at < bytes.length; at++) {
            pieces.add(bytes, at, 1);
        }
        Usage usage = whole.end();
        assertEquals(usage, pieces.end(), "it does not matter how the body is cut");
        return usage;
    }

    private static Usage usage(long input, long output) {
        return Usage.none().inputTokens(input).outputTokens(output);
    }

    /** Goal: what was used is found in every provider's words, with the cached part in the input. */
    @Test
    void readsBodies() {
        String json = "application/json";
        assertEquals(usage(9, 4), read(json, "{\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"total_tokens\":13}}"));
        assertEquals(
                usage(9, 4).cachedInputTokens(5),
                read(json, "{\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":5}}}"));
        assertEquals(
                usage(9, 4),
                read(json, "{\"usage\":{\"input_tokens\":9,\"output_tokens\":4,\"input_tokens_details\":{\"cached_tokens\":0}}}"));
        assertEquals(
                usage(14, 4).cachedInputTokens(3),
                read(null, "{\"usage\":{\"input_tokens\":9,\"output_tokens\":4,\"cache_creation_input_tokens\":2,\"cache_read_input_tokens\":3}}"));
        assertEquals(usage(9, 0), read(json, "{\"usage\":{\"prompt_tokens\":9,\"total_tokens\":9}}"), "an embedding");
        assertEquals(
                usage(9, 6).cachedInputTokens(1),
                read(json, "[{\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":4,\"thoughtsTokenCount\":2,\"cachedContentTokenCount\":1}}]"));
    }

    /** Goal: in a stream the latest number counts, however lines end. */
    @Test
    void readsStreams() {
        String anthropic =
                """
                event: message_start
                data: {"type":"message_start","message":{"usage":{"input_tokens":9,"cache_read_input_tokens":2,"output_tokens":1}}}

                : a comment
                event: message_delta
                data: {"type":"message_delta",
                data: "usage":{"output_tokens":40}}

                """;
        for (String newline : new String[] {"\n", "\r\n", "\r"}) {
            assertEquals(usage(11, 40).cachedInputTokens(2), read(STREAM, anthropic.replace("\n", newline)));
        }
        String openai = "data: {\"usage\":null}\n\ndata: {\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n";
        assertEquals(usage(7, 3), read(STREAM, openai));
        String responses = "data: {\"response\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":3}}}";
        assertEquals(usage(7, 3), read(STREAM, responses), "without the last empty line");
    }

    /** Goal: what says nothing, or nonsense, or too much, is absent. */
    @Test
    void nonsenseIsAbsent() {
        for (String body : new String[] {"", "<html>", "[]", "{\"usage\":null}", "{\"usage\":{\"input_tokens\":-1}}", "{\"usage\":7}"}) {
            assertTrue(read("application/json", body).isEmpty(), body);
        }
        String endless = "data: \"" + "x".repeat(2_000_000) + "\"\n\n";
        UsageReader reader = new UsageReader(STREAM);
        byte[] bytes = (endless + "data: {\"usage\":{\"input_tokens\":7,\"output_tokens\":3}}\n\n").getBytes(StandardCharsets.UTF_8);
        reader.add(bytes, 0, bytes.length);
        assertEquals(usage(7, 3), reader.end(), "an event that is too long is passed over");
    }
}
