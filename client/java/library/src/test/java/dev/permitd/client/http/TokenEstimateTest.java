package dev.permitd.client.http;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

/** What a body is expected to use: the rules of the conformance suite, and what no suite would try. */
class TokenEstimateTest {
    private static TokenEstimate read(String body) {
        return TokenEstimate.of(body.getBytes(StandardCharsets.UTF_8)).orElseThrow();
    }

    private static long input(String body) {
        return read(body).usage().inputTokens().orElseThrow();
    }

    private static BigInteger bound(String body) {
        return read(body).usage().amounts().get("max_output_tokens");
    }

    /** Goal: text counts a token for every four bytes, wherever it stands and in whatever script. */
    @Test
    void countsText() {
        String text = "x".repeat(400);
        assertEquals(100, input("{\"messages\": [{\"content\": \"" + text + "\"}]}"));
        assertEquals(200, input("{\"input\": [\"" + text + "\", \"" + text + "\"]}"));
        assertEquals(300, input("{\"input\": \"" + "文".repeat(400) + "\"}"));
        assertEquals(1, input("{}"), "no call is for nothing");
        assertEquals("gpt-5", read("{\"model\": \"gpt-5\"}").model());
        assertEquals("", read("{\"model\": 5}").model());
    }

    /** Goal: what is no text does not count by its bytes, and tokens count as what they are. */
    @Test
    void countsWhatIsNoText() {
        String bytes = "A".repeat(100_000);
        assertEquals(
                1_600 + 3, input("{\"source\": {\"type\": \"abc\", \"media_type\": \"image/png\", \"data\": \"" + bytes + "\"}}"));
        assertEquals(1_600, input("{\"url\": \"data:image/png;base64," + bytes + "\"}"));
        assertEquals(5, input("{\"input\": [[1, 2, 3], [4, 5]]}"));
    }

    /** Goal: the bound of the output is found where each provider has it, counts for each answer asked for, and is exact. */
    @Test
    void findsTheBoundOfTheOutput() {
        assertEquals(BigInteger.valueOf(64), bound("{\"max_tokens\": 64}"));
        assertEquals(BigInteger.valueOf(32), bound("{\"max_tokens\": 64, \"max_completion_tokens\": 32}"));
        assertEquals(BigInteger.valueOf(7), bound("{\"generationConfig\": {\"maxOutputTokens\": 7}}"));
        assertEquals(BigInteger.valueOf(192), bound("{\"max_tokens\": 64, \"n\": 3, \"best_of\": 2}"));
        BigInteger most = new BigInteger("18446744073709551615");
        assertEquals(most, bound("{\"max_tokens\": " + most + ", \"n\": " + most + "}"));
        for (String none : new String[] {"-5", "1.5", "1e3", "\"64\"", "null", "18446744073709551616", "9".repeat(300)}) {
            assertEquals(null, bound("{\"max_tokens\": " + none + "}"), none);
        }
    }

    /** Goal: of what is no JSON, or nests without end, nothing is known, and nothing breaks. */
    @Test
    void whatIsNoJsonTellsNothing() {
        String deep = "[".repeat(100_000);
        for (String body : new String[] {"", "<html>", "{", "{}{}", "{a: 1}", "{\"a\": NaN}", deep, "\u0000"}) {
            assertTrue(TokenEstimate.of(body.getBytes(StandardCharsets.UTF_8)).isEmpty(), body);
        }
    }
}
