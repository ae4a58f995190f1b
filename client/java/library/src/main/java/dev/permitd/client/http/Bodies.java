package dev.permitd.client.http;

import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpResponse.BodySubscriber;
import java.net.http.HttpResponse.BodySubscribers;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Flow;

/** Bodies as bytes, and bytes as bodies. */
final class Bodies {
    private Bodies() {}

    /** Everything that {@code publisher} has. */
    static CompletionStage<byte[]> read(BodyPublisher publisher) {
        BodySubscriber<byte[]> all = BodySubscribers.ofByteArray();
        publisher.subscribe(new Flow.Subscriber<>() {
            @Override
            public void onSubscribe(Flow.Subscription subscription) {
                all.onSubscribe(subscription);
            }

            @Override
            public void onNext(ByteBuffer item) {
                all.onNext(List.of(item));
            }

            @Override
            public void onError(Throwable problem) {
                all.onError(problem);
            }

            @Override
            public void onComplete() {
                all.onComplete();
            }
        });
        return all.getBody();
    }

    /** Gives {@code body} to {@code subscriber} as if it came in now. */
    static <T> CompletionStage<T> replay(byte[] body, BodySubscriber<T> subscriber) {
        subscriber.onSubscribe(new Flow.Subscription() {
            private boolean isOver;

            @Override
            public void request(long count) {
                if (isOver) {
                    return;
                }
                isOver = true;
                if (body.length > 0) {
                    subscriber.onNext(List.of(ByteBuffer.wrap(body)));
                }
                subscriber.onComplete();
            }

            @Override
            public void cancel() {
                isOver = true;
            }
        });
        return subscriber.getBody();
    }
}
