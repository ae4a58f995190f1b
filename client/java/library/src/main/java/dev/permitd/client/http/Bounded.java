package dev.permitd.client.http;

import java.io.IOException;
import java.net.http.HttpResponse.BodySubscriber;
import java.net.http.HttpResponse.BodySubscribers;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Flow;

/** Collects the body of a refusal, up to a bound. */
final class Bounded implements BodySubscriber<byte[]> {
    /** Bytes of a refusal; what is longer is none of a provider. */
    private static final int BYTES_MAX = 16 * 1024 * 1024;

    private final BodySubscriber<byte[]> all = BodySubscribers.ofByteArray();
    private Flow.Subscription subscription;
    private long bytes;

    @Override
    public CompletionStage<byte[]> getBody() {
        return all.getBody();
    }

    @Override
    public void onSubscribe(Flow.Subscription subscription) {
        this.subscription = subscription;
        all.onSubscribe(subscription);
    }

    @Override
    public void onNext(List<ByteBuffer> buffers) {
        for (ByteBuffer buffer : buffers) {
            bytes += buffer.remaining();
        }
        if (bytes > BYTES_MAX) {
            subscription.cancel();
            all.onError(new IOException("the body of a refusal is longer than " + BYTES_MAX + " bytes"));
        } else {
            all.onNext(buffers);
        }
    }

    @Override
    public void onError(Throwable problem) {
        all.onError(problem);
    }

    @Override
    public void onComplete() {
        all.onComplete();
    }
}
