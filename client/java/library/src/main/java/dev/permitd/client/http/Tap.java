package dev.permitd.client.http;

import java.net.http.HttpResponse.BodySubscriber;
import java.net.http.HttpResponse.ResponseInfo;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Flow;

/** Reads along while a body passes to the caller, unchanged, and reports when it has ended or is let go. */
final class Tap<T> implements BodySubscriber<T> {
    private final BodySubscriber<T> caller;
    private final ResponseInfo info;
    private final Exchange exchange;
    private final UsageReader usage;

    Tap(BodySubscriber<T> caller, ResponseInfo info, Exchange exchange) {
        this.caller = caller;
        this.info = info;
        this.exchange = exchange;
        this.usage = new UsageReader(info.headers().firstValue("content-type").orElse(null));
    }

    @Override
    public CompletionStage<T> getBody() {
        return caller.getBody();
    }

    @Override
    public void onSubscribe(Flow.Subscription subscription) {
        caller.onSubscribe(new Flow.Subscription() {
            @Override
            public void request(long count) {
                subscription.request(count);
            }

            @Override
            public void cancel() {
                exchange.letGo(info.statusCode(), info.headers().map());
                subscription.cancel();
            }
        });
    }

    @Override
    public void onNext(List<ByteBuffer> buffers) {
        for (ByteBuffer buffer : buffers) {
            byte[] bytes = new byte[buffer.remaining()];
            buffer.duplicate().get(bytes);
            usage.add(bytes, 0, bytes.length);
        }
        caller.onNext(buffers);
    }

    @Override
    public void onError(Throwable problem) {
        exchange.failed();
        caller.onError(problem);
    }

    @Override
    public void onComplete() {
        exchange.ended(info.statusCode(), info.headers().map(), usage.end());
        caller.onComplete();
    }
}
