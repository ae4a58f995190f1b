package dev.permitd.client.http;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpHeaders;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.Optional;
import javax.net.ssl.SSLSession;

/** A response with the body that the caller's handler has made. */
record Response<T>(HttpResponse<Answer<T>> of, T body) implements HttpResponse<T> {
    @Override
    public int statusCode() {
        return of.statusCode();
    }

    @Override
    public HttpRequest request() {
        return of.request();
    }

    /** Redirects before this response have no body, and attempts before it are not told. */
    @Override
    public Optional<HttpResponse<T>> previousResponse() {
        return of.previousResponse().map(previous -> new Response<>(previous, null));
    }

    @Override
    public HttpHeaders headers() {
        return of.headers();
    }

    @Override
    public Optional<SSLSession> sslSession() {
        return of.sslSession();
    }

    @Override
    public URI uri() {
        return of.uri();
    }

    @Override
    public HttpClient.Version version() {
        return of.version();
    }
}
