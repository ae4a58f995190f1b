package dev.permitd.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.permitd.client.Permitd;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The service, against the real server and the simulated provider. */
@Timeout(60)
class SummaryServiceTest {
    /** Goal: everybody gets a summary, though the provider takes two calls at a time, and it refuses none. */
    @Test
    void everybodyIsServedAndNobodyRefused() throws Exception {
        String config = "[budgets.\"anthropic/prod\"]\nlimits = [\"in_flight=2\"]\n";
        try (Permitd permitd = Permitd.start(config);
                Permitd provider = Permitd.simulate("--concurrency", "2", "--latency-median-ms", "20");
                SummaryService service = new SummaryService(permitd.endpoint(), provider.endpoint(), "secret")) {
            HttpClient people = HttpClient.newHttpClient();
            HttpRequest request = HttpRequest.newBuilder(service.address())
                    .POST(BodyPublishers.ofString("A long story."))
                    .build();
            List<CompletableFuture<HttpResponse<String>>> asking = IntStream.range(0, 20)
                    .mapToObj(person -> people.sendAsync(request, BodyHandlers.ofString()))
                    .toList();
            for (CompletableFuture<HttpResponse<String>> answer : asking) {
                assertEquals(200, answer.get().statusCode(), answer.get().body());
                assertFalse(answer.get().body().isBlank());
            }
            URI stats = URI.create(provider.endpoint() + "/sim/stats");
            String told = people.send(HttpRequest.newBuilder(stats).build(), BodyHandlers.ofString()).body();
            JsonObject counted = JsonParser.parseString(told).getAsJsonObject().getAsJsonObject("keys").getAsJsonObject("secret");
            assertEquals(20, counted.get("ok").getAsLong());
            assertEquals(0, counted.get("limited").getAsLong());
        }
    }
}
