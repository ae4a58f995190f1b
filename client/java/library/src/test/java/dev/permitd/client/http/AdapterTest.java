package dev.permitd.client.http;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.permitd.client.Guard;
import dev.permitd.client.PermitClient;
import dev.permitd.client.PermitException;
import dev.permitd.client.Permitd;
import dev.permitd.client.Request;
import java.io.IOException;
import java.io.InputStream;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import okhttp3.MediaType;
import okhttp3.OkHttpClient;
import okhttp3.RequestBody;
import okhttp3.Response;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Both adapters, against the real server and the simulated provider: what they ask for, report, and make again. */
@Timeout(60)
class AdapterTest {
    /** Room for one call at a time, and for nothing that is not given back. */
    private static final String CONFIG =
            """
            [budgets."openai/prod"]
            limits = ["in_flight=1", "tokens=100k/1h"]
            [budgets."anthropic/prod"]
            limits = ["in_flight=1", "input_tokens=100k/1h", "output_tokens=100k/1h"]
            [budgets."tight/prod"]
            limits = ["tokens=10/1h"]
            """;

    /** One way of making a call with permits. */
    private enum Way {
        JDK {
            @Override
            Answer call(PermitClient client, Request request, String url, String body) throws Exception {
                HttpClient http = PermitHttpClient.around(HttpClient.newHttpClient(), client, request);
                HttpResponse<String> response = http.send(toSend(url, body), BodyHandlers.ofString());
                return new Answer(response.statusCode(), response.body());
            }
        },
        OKHTTP {
            @Override
            Answer call(PermitClient client, Request request, String url, String body) throws Exception {
                OkHttpClient http = new OkHttpClient.Builder()
                        .addInterceptor(PermitInterceptor.with(client, request))
                        .build();
                okhttp3.Request call = new okhttp3.Request.Builder()
                        .url(url)
                        .header("authorization", "Bearer key")
                        .header("x-api-key", "key")
                        .post(RequestBody.create(body, MediaType.get("application/json")))
                        .build();
                try (Response response = http.newCall(call).execute()) {
                    return new Answer(response.code(), response.body().string());
                } finally {
                    http.dispatcher().executorService().shutdown();
                    http.connectionPool().evictAll();
                }
            }
        };

        abstract Answer call(PermitClient client, Request request, String url, String body) throws Exception;
    }

    private record Answer(int status, String body) {}

    private static HttpRequest toSend(String url, String body) {
        return HttpRequest.newBuilder(URI.create(url))
                .header("content-type", "application/json")
                .header("authorization", "Bearer key")
                .header("x-api-key", "key")
                .POST(BodyPublishers.ofString(body))
                .build();
    }

    private static String body(int bound, String more) {
        return "{\"model\": \"m\", \"max_tokens\": " + bound + ", \"messages\": [{\"role\": \"user\", \"content\": \"Hello there.\"}]"
                + more + "}";
    }

    /** Calls that the provider refused. */
    private static long limited(Permitd provider) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(URI.create(provider.endpoint() + "/sim/stats")).build();
        String body = HttpClient.newHttpClient().send(request, BodyHandlers.ofString()).body();
        JsonObject keys = JsonParser.parseString(body).getAsJsonObject().getAsJsonObject("keys");
        return keys.getAsJsonObject("key").get("limited").getAsLong();
    }

    /** What is left of the budget's tokens can be taken at once, and one more cannot: so exactly {@code used} were settled. */
    private static void assertUsed(PermitClient client, String budget, long used) throws Exception {
        Request all = Request.of(budget).maxWait(Duration.ofSeconds(5));
        client.acquire(all.estimate(dev.permitd.client.Usage.none().inputTokens(100_000 - used).outputTokens(0)))
                .cancel();
        Request more = Request.of(budget).maxWait(Duration.ZERO);
        var tooMuch = dev.permitd.client.Usage.none().inputTokens(100_000 - used + 50).outputTokens(0);
        PermitException refused = assertThrows(PermitException.class, () -> client.acquire(more.estimate(tooMuch)));
        assertTrue(refused.isRefused(), refused.getMessage());
    }

    /** Goal: a call holds its estimate while it lasts, and settles to what the response says was used; streams too. */
    @ParameterizedTest
    @EnumSource(Way.class)
    void settlesToWhatWasUsed(Way way) throws Exception {
        try (Permitd server = Permitd.start(CONFIG);
                Permitd provider = Permitd.simulate("--latency-median-ms", "1");
                PermitClient client = PermitClient.connect(server.endpoint())) {
            long used = 0;
            for (String more : new String[] {"", ", \"stream\": true"}) {
                Answer answer = way.call(
                        client, Request.of("anthropic/prod"), provider.endpoint() + "/v1/messages", body(5_000, more));
                assertEquals(200, answer.status(), answer.body());
                JsonObject told = more.isEmpty()
                        ? JsonParser.parseString(answer.body()).getAsJsonObject().getAsJsonObject("usage")
                        : firstUsage(answer.body());
                used += told.get("input_tokens").getAsLong();
            }
            assertUsed(client, "anthropic/prod", used);
        }
    }

    private static JsonObject firstUsage(String stream) {
        String start = stream.lines().filter(line -> line.startsWith("data:") && line.contains("message_start")).findFirst().orElseThrow();
        String json = start.substring(start.indexOf('{'));
        return JsonParser.parseString(json).getAsJsonObject().getAsJsonObject("message").getAsJsonObject("usage");
    }

    /** Goal: a refusal by the provider is waited out in the queue, and the caller sees the success. */
    @ParameterizedTest
    @EnumSource(Way.class)
    void refusalsAreMadeAgain(Way way) throws Exception {
        try (Permitd server = Permitd.start(CONFIG);
                // One call at a time, and one more each second.
                Permitd provider = Permitd.simulate("--requests", "60/1", "--latency-median-ms", "1");
                PermitClient client = PermitClient.connect(server.endpoint())) {
            for (int call = 0; call < 2; call++) {
                Answer answer = way.call(
                        client, Request.of("openai/prod"), provider.endpoint() + "/v1/chat/completions", body(10, ""));
                assertEquals(200, answer.status(), answer.body());
            }
            assertTrue(limited(provider) >= 1, "one was refused");
        }
    }

    /** Goal: what is not worth another try comes through as it is, body and all. */
    @ParameterizedTest
    @EnumSource(Way.class)
    void otherErrorsComeThrough(Way way) throws Exception {
        try (Permitd server = Permitd.start(CONFIG);
                Permitd provider = Permitd.simulate();
                PermitClient client = PermitClient.connect(server.endpoint())) {
            Answer answer = way.call(client, Request.of("openai/prod"), provider.endpoint() + "/v1/messages", "{}");
            assertEquals(400, answer.status());
            assertTrue(answer.body().contains("invalid_request_error"), answer.body());
            client.acquire(Request.of("openai/prod").maxWait(Duration.ofSeconds(5))).cancel();
        }
    }

    /** Goal: without a permit there is no call; without a connection everything goes back. */
    @ParameterizedTest
    @EnumSource(Way.class)
    void failuresAreTold(Way way) throws Exception {
        try (Permitd server = Permitd.start(CONFIG);
                Permitd provider = Permitd.simulate();
                PermitClient client = PermitClient.connect(server.endpoint())) {
            String url = provider.endpoint() + "/v1/messages";
            PermitException refused = assertThrows(
                    PermitException.class, () -> way.call(client, Request.of("tight/prod"), url, body(1, ", \"x\": \"" + "y".repeat(99) + "\"")));
            assertTrue(refused.isImpossible());
            provider.close();
            assertThrows(ConnectException.class, () -> way.call(client, Request.of("anthropic/prod"), url, body(9, "")));
            assertUsed(client, "anthropic/prod", 0);
        }
    }

    /** Goal: a body that is let go, and a call that is cancelled, give their slot back. */
    @Test
    void whatIsLetGoIsReported() throws Exception {
        try (Permitd server = Permitd.start(CONFIG);
                Permitd provider = Permitd.simulate("--latency-median-ms", "200", "--output-mean", "4000");
                PermitClient client = PermitClient.connect(server.endpoint())) {
            HttpClient http = PermitHttpClient.around(HttpClient.newHttpClient(), client, Request.of("anthropic/prod"));
            HttpRequest request = toSend(provider.endpoint() + "/v1/messages", body(5_000, ", \"stream\": true"));
            try (InputStream stream = http.send(request, BodyHandlers.ofInputStream()).body()) {
                assertTrue(stream.read() >= 0);
            }
            Guard guard = client.acquire("anthropic/prod");
            CompletableFuture<HttpResponse<String>> waiting = http.sendAsync(request, BodyHandlers.ofString());
            assertTrue(waiting.cancel(true));
            guard.cancel();
            client.acquire("anthropic/prod").cancel();
        }
    }
}
