package dev.permitd.client.http;

import java.net.http.HttpResponse.BodyHandler;
import java.net.http.HttpResponse.BodySubscriber;
import java.net.http.HttpResponse.BodySubscribers;
import java.net.http.HttpResponse.ResponseInfo;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;

/** The body of a response: the caller's, or, of a refusal, bytes that the caller gets only if the call is not made again. */
final class Answer<T> {
    private final T taken;
    private final byte[] refusal;
    private final ResponseInfo info;
    private final BodyHandler<T> handler;

    private Answer(T taken, byte[] refusal, ResponseInfo info, BodyHandler<T> handler) {
        this.taken = taken;
        this.refusal = refusal;
        this.info = info;
        this.handler = handler;
    }

    static <T> BodySubscriber<Answer<T>> read(ResponseInfo info, BodyHandler<T> handler, Exchange exchange) {
        if (info.statusCode() >= Exchange.REFUSED) {
            return BodySubscribers.mapping(new Bounded(), bytes -> new Answer<>(null, bytes, info, handler));
        }
        BodySubscriber<T> tapped = new Tap<>(handler.apply(info), info, exchange);
        return BodySubscribers.mapping(tapped, taken -> new Answer<>(taken, null, info, handler));
    }

    boolean isRefusal() {
        return refusal != null;
    }

    byte[] refusal() {
        return refusal;
    }

    CompletionStage<T> body() {
        return isRefusal() ? Bodies.replay(refusal, handler.apply(info)) : CompletableFuture.completedFuture(taken);
    }
}
