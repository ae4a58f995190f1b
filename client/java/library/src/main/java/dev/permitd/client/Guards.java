package dev.permitd.client;

import java.util.concurrent.CompletableFuture;

/** Makes guards whose permits are settled on the driver's thread, also those of guards that are forgotten. */
final class Guards {
    private final Mailbox mailbox;
    private final Leaks leaks = new Leaks();

    Guards(Mailbox mailbox) {
        this.mailbox = mailbox;
    }

    /** {@code settle} runs on the driver's thread; it has to know nothing of the guard. Its answer is null if nobody wants one. */
    Guard guard(Permit permit, Guard.Hold settle) {
        Posting hold = new Posting(settle);
        Guard guard = new Guard(permit, hold);
        hold.tracked = leaks.track(guard, () -> settle.settle(Report.failed(), null));
        return guard;
    }

    /** Settles the permits of guards that were forgotten. */
    void sweep() {
        leaks.sweep();
    }

    private final class Posting implements Guard.Hold {
        private final Guard.Hold settle;
        private Leaks.Tracked tracked;

        Posting(Guard.Hold settle) {
            this.settle = settle;
        }

        @Override
        public void settle(Report report, CompletableFuture<Advice> answer) {
            Runnable run = () -> {
                tracked.forget();
                settle.settle(report, answer);
            };
            mailbox.push(run, () -> answer.completeExceptionally(PermitException.closed()));
        }
    }
}
