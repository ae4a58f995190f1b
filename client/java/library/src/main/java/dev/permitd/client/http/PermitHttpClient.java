package dev.permitd.client.http;

import dev.permitd.client.PermitClient;
import dev.permitd.client.Request;
import java.io.IOException;
import java.net.Authenticator;
import java.net.CookieHandler;
import java.net.ProxySelector;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandler;
import java.net.http.HttpResponse.PushPromiseHandler;
import java.net.http.WebSocket;
import java.time.Duration;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.function.Function;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;

/**
 * An {@link HttpClient} whose every call waits for its permit first. Put it where the plain one was:
 *
 * <pre>{@code
 * HttpClient http = PermitHttpClient.around(HttpClient.newHttpClient(), client, Request.of("anthropic/prod"));
 * }</pre>
 *
 * <p>Tokens are estimated from the request's JSON body; what was used is read from the response's while it passes by, from streams of
 * server-sent events too, and reported when the body has ended or is let go. A refusal is reported with its headers and the beginning
 * of its body, and the call is made again, waiting in the queue, while the server advises it and attempts are left; the caller sees the
 * last answer. So turn the retries of whatever stands on this client off.
 *
 * <p>A body whose length its publisher does not know is not looked at, and sent once: it counts as one request. A call without an answer
 * is not made again, since nobody knows whether it was done.
 *
 * <p>{@link #send} and {@link #sendAsync} fail with a {@link dev.permitd.client.PermitException} where there is no permit.
 */
public final class PermitHttpClient extends HttpClient {
    private final HttpClient http;
    private final PermitClient client;
    private final Function<? super HttpRequest, Request> requests;
    private final int attempts;

    private PermitHttpClient(
            HttpClient http, PermitClient client, Function<? super HttpRequest, Request> requests, int attempts) {
        this.http = Objects.requireNonNull(http, "http");
        this.client = Objects.requireNonNull(client, "client");
        this.requests = requests;
        this.attempts = attempts;
    }

    /** Every call asks for {@code request}; what it leaves open of estimate and model is read from the body. */
    public static PermitHttpClient around(HttpClient http, PermitClient client, Request request) {
        Objects.requireNonNull(request, "request");
        return around(http, client, call -> request);
    }

    /** The same, with the budget and all else chosen for each call. */
    public static PermitHttpClient around(
            HttpClient http, PermitClient client, Function<? super HttpRequest, Request> requests) {
        return new PermitHttpClient(http, client, Objects.requireNonNull(requests, "requests"), Exchange.ATTEMPTS);
    }

    /** How often a call is made at most; at least once. Default: 4. */
    public PermitHttpClient attempts(int attempts) {
        return new PermitHttpClient(http, client, requests, Math.max(1, attempts));
    }

    @Override
    public <T> HttpResponse<T> send(HttpRequest request, BodyHandler<T> handler) throws IOException, InterruptedException {
        CompletableFuture<HttpResponse<T>> answer = sendAsync(request, handler);
        try {
            return answer.get();
        } catch (InterruptedException interrupted) {
            answer.cancel(true);
            throw interrupted;
        } catch (ExecutionException failed) {
            if (failed.getCause() instanceof IOException problem) {
                throw problem;
            }
            throw new IOException(failed.getCause());
        }
    }

    @Override
    public <T> CompletableFuture<HttpResponse<T>> sendAsync(HttpRequest request, BodyHandler<T> handler) {
        Objects.requireNonNull(handler, "handler");
        return new HttpCall<>(http, client, handler, attempts)
                .begin(request, Objects.requireNonNull(requests.apply(request), "the request for a permit"));
    }

    /** {@inheritDoc} Pushed responses would have no permit, so a {@code pushes} that is not null is refused. */
    @Override
    public <T> CompletableFuture<HttpResponse<T>> sendAsync(
            HttpRequest request, BodyHandler<T> handler, PushPromiseHandler<T> pushes) {
        if (pushes != null) {
            throw new UnsupportedOperationException("pushed responses have no permit; leave the handler out");
        }
        return sendAsync(request, handler);
    }

    @Override
    public Optional<CookieHandler> cookieHandler() {
        return http.cookieHandler();
    }

    @Override
    public Optional<Duration> connectTimeout() {
        return http.connectTimeout();
    }

    @Override
    public Redirect followRedirects() {
        return http.followRedirects();
    }

    @Override
    public Optional<ProxySelector> proxy() {
        return http.proxy();
    }

    @Override
    public SSLContext sslContext() {
        return http.sslContext();
    }

    @Override
    public SSLParameters sslParameters() {
        return http.sslParameters();
    }

    @Override
    public Optional<Authenticator> authenticator() {
        return http.authenticator();
    }

    @Override
    public Version version() {
        return http.version();
    }

    @Override
    public Optional<Executor> executor() {
        return http.executor();
    }

    @Override
    public WebSocket.Builder newWebSocketBuilder() {
        return http.newWebSocketBuilder();
    }
}
