package dev.permitd.example;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import dev.permitd.client.OutagePolicy;
import dev.permitd.client.PermitClient;
import dev.permitd.client.PermitException;
import dev.permitd.client.Priority;
import dev.permitd.client.Request;
import dev.permitd.client.http.PermitHttpClient;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * A web service that summarises texts with a language model: {@code POST /summary} with a text. However many people ask at the same
 * time, and however many of these services share the key, the provider refuses nobody: the one line that says so is the one with
 * {@link PermitHttpClient}.
 */
public final class SummaryService implements AutoCloseable {
    /** People who are served at the same time; others wait to be accepted. */
    private static final int THREADS = 64;

    /** How long somebody who looks at a screen waits for their turn. */
    private static final Duration PATIENCE = Duration.ofSeconds(30);

    private final PermitClient permits;
    private final HttpClient http;
    private final URI provider;
    private final String key;
    private final HttpServer server;
    private final ExecutorService threads = Executors.newFixedThreadPool(THREADS);

    /** Serves on a free port of loopback. {@code key} is the provider's secret, which permitd never sees. */
    public SummaryService(String permitd, String provider, String key) throws IOException, InterruptedException {
        this.permits = PermitClient.builder()
                .endpoint(permitd)
                .tenant("summaries")
                .outagePolicy(OutagePolicy.LOCAL_SHARE)
                .connect();
        Request request = Request.of("anthropic/prod").priority(Priority.INTERACTIVE).maxWait(PATIENCE);
        this.http = PermitHttpClient.around(HttpClient.newHttpClient(), permits, request);
        this.provider = URI.create(provider + "/v1/messages");
        this.key = key;
        this.server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/summary", this::answer);
        server.setExecutor(threads);
        server.start();
    }

    /** Where it serves. */
    public URI address() {
        return URI.create("http://127.0.0.1:" + server.getAddress().getPort() + "/summary");
    }

    private void answer(HttpExchange exchange) throws IOException {
        try (exchange) {
            String text = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
            try {
                HttpResponse<String> response = http.send(call(text), BodyHandlers.ofString());
                reply(exchange, response.statusCode() == 200 ? 200 : 502, summary(response));
            } catch (PermitException noPermit) {
                noPermit.retryAfter().ifPresent(wait ->
                        exchange.getResponseHeaders().set("retry-after", String.valueOf(wait.toSeconds() + 1)));
                reply(exchange, 503, "Too busy: " + noPermit.getMessage());
            } catch (InterruptedException stopping) {
                Thread.currentThread().interrupt();
                reply(exchange, 503, "Stopping");
            }
        }
    }

    private HttpRequest call(String text) {
        JsonObject message = new JsonObject();
        message.addProperty("role", "user");
        message.addProperty("content", "Summarise in one sentence: " + text);
        JsonObject body = new JsonObject();
        body.addProperty("model", "claude-sonnet-4-5");
        body.addProperty("max_tokens", 200);
        body.add("messages", JsonParser.parseString("[" + message + "]"));
        return HttpRequest.newBuilder(provider)
                .header("content-type", "application/json")
                .header("x-api-key", key)
                .POST(BodyPublishers.ofString(body.toString()))
                .build();
    }

    private static String summary(HttpResponse<String> response) {
        if (response.statusCode() != 200) {
            return "The model failed with status " + response.statusCode();
        }
        JsonObject message = JsonParser.parseString(response.body()).getAsJsonObject();
        return message.getAsJsonArray("content").get(0).getAsJsonObject().get("text").getAsString();
    }

    private static void reply(HttpExchange exchange, int status, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
    }

    /** Who is being served is still answered, within a second. */
    @Override
    public void close() {
        server.stop(1);
        threads.shutdown();
        permits.close();
    }

    /** {@code SummaryService PERMITD PROVIDER}, with the provider's key in the environment as {@code API_KEY}. */
    public static void main(String[] arguments) throws IOException, InterruptedException {
        SummaryService service = new SummaryService(arguments[0], arguments[1], System.getenv("API_KEY"));
        Runtime.getRuntime().addShutdownHook(new Thread(service::close));
        System.out.println("POST a text to " + service.address());
    }
}
