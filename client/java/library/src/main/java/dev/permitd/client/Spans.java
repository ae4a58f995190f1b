package dev.permitd.client;

import java.time.Duration;

/** Spans of time between the wire, java.time and the nanoseconds that the driver counts in. Nothing overflows: it saturates. */
final class Spans {
    /** Longer than any process lives, and short enough to be added to any {@link System#nanoTime()}. */
    static final long FOREVER = Long.MAX_VALUE / 4;

    /** The longest span of the wire: 10,000 years. */
    private static final Duration WIRE_MAX = Duration.ofSeconds(315_576_000_000L);

    private Spans() {}

    static long nanos(Duration span) {
        if (span.isNegative()) {
            return 0;
        }
        return span.compareTo(Duration.ofNanos(FOREVER)) >= 0 ? FOREVER : span.toNanos();
    }

    /** Negative spans become zero. */
    static Duration fromWire(com.google.protobuf.Duration span) {
        if (span.getSeconds() < 0 || span.getNanos() < 0) {
            return Duration.ZERO;
        }
        return Duration.ofSeconds(Math.min(span.getSeconds(), WIRE_MAX.getSeconds()), span.getNanos());
    }

    static com.google.protobuf.Duration toWire(Duration span) {
        Duration kept = span.compareTo(WIRE_MAX) > 0 ? WIRE_MAX : span;
        return com.google.protobuf.Duration.newBuilder()
                .setSeconds(kept.getSeconds())
                .setNanos(kept.getNano())
                .build();
    }

    static com.google.protobuf.Duration toWire(long nanos) {
        return toWire(Duration.ofNanos(nanos));
    }
}
