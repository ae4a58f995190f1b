package dev.permitd.client;

import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;

/** Hands answers over to code that is not ours, which must not hold up the driver. */
final class Handing {
    private Handing() {}

    /** An executor that takes nothing any more does not keep an answer from whoever waits for it. */
    static void by(Executor executor, Runnable delivery) {
        try {
            executor.execute(delivery);
        } catch (RejectedExecutionException shutDown) {
            delivery.run();
        }
    }
}
