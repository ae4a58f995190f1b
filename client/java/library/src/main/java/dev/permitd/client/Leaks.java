package dev.permitd.client;

import java.lang.ref.PhantomReference;
import java.lang.ref.ReferenceQueue;
import java.util.HashSet;
import java.util.Set;

/**
 * Guards that are out, so that those that were forgotten are settled once the garbage collector finds them: their permits would
 * otherwise be extended for ever. Belongs to the driver's thread.
 */
final class Leaks {
    private final ReferenceQueue<Guard> forgotten = new ReferenceQueue<>();
    private final Set<Tracked> out = new HashSet<>();

    /** A guard that is out. */
    final class Tracked extends PhantomReference<Guard> {
        private final Runnable settle;

        private Tracked(Guard guard, Runnable settle) {
            super(guard, forgotten);
            this.settle = settle;
        }

        /** It was settled. */
        void forget() {
            out.remove(this);
        }
    }

    /** Runs {@code settle}, which has to know nothing of the guard, once it was forgotten. */
    Tracked track(Guard guard, Runnable settle) {
        Tracked tracked = new Tracked(guard, settle);
        out.add(tracked);
        return tracked;
    }

    /** Settles what was found. */
    void sweep() {
        for (var found = forgotten.poll(); found != null; found = forgotten.poll()) {
            if (out.remove(found)) {
                ((Tracked) found).settle.run();
            }
        }
    }
}
