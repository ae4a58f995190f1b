package dev.permitd.bench;

import dev.permitd.client.Guard;
import dev.permitd.client.PermitClient;
import dev.permitd.client.Report;
import dev.permitd.client.Request;
import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * How many permits one client gets and reports in a second through its one session, how long an acquire takes that nothing is in the
 * way of, and whether memory stays flat. Arguments: the endpoint of a server whose budget {@code api/prod} always has room, and the
 * seconds of each measurement.
 */
public final class Bench {
    /** Callers at the same time. */
    private static final int[] CALLERS = {1, 16, 256, 4_096};

    /** Acquires whose latency is measured, after as many to warm up. */
    private static final int LATENCIES = 20_000;

    /** Permits over which memory has to stay flat. */
    private static final long PERMITS = 1_000_000;

    private static final Request REQUEST = Request.of("api/prod").tokens(100);

    private Bench() {}

    /** See the class. */
    public static void main(String[] arguments) throws Exception {
        long nanos = TimeUnit.SECONDS.toNanos(Long.parseLong(arguments[1]));
        try (PermitClient client = PermitClient.connect(arguments[0])) {
            for (int callers : CALLERS) {
                System.out.printf("%6d callers: %9d acquired and reported/s%n", callers, rate(client, callers, nanos));
            }
            latency(client);
            memory(client);
        }
    }

    private static long rate(PermitClient client, int callers, long nanos) throws InterruptedException {
        AtomicLong done = new AtomicLong();
        CountDownLatch left = new CountDownLatch(callers);
        long began = System.nanoTime();
        for (int at = 0; at < callers; at++) {
            call(client, done, left, began + nanos);
        }
        left.await();
        return done.get() * 1_000 / TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - began);
    }

    /** One caller, which asks again as soon as it has reported. */
    private static void call(PermitClient client, AtomicLong done, CountDownLatch left, long until) {
        client.acquireAsync(REQUEST).whenComplete((guard, problem) -> {
            if (problem != null) {
                problem.printStackTrace();
                System.exit(1);
            }
            guard.report(Report.success().tokens(90));
            done.incrementAndGet();
            if (System.nanoTime() - until < 0) {
                call(client, done, left, until);
            } else {
                left.countDown();
            }
        });
    }

    private static void latency(PermitClient client) throws Exception {
        long[] nanos = new long[LATENCIES];
        for (int at = -LATENCIES; at < LATENCIES; at++) {
            long began = System.nanoTime();
            Guard guard = client.acquire(REQUEST);
            long took = System.nanoTime() - began;
            guard.report(Report.success()).get();
            if (at >= 0) {
                nanos[at] = took;
            }
        }
        Arrays.sort(nanos);
        System.out.printf(
                "acquire, nothing in the way: median %d us, p99 %d us, worst %d us%n",
                nanos[LATENCIES / 2] / 1_000, nanos[LATENCIES * 99 / 100] / 1_000, nanos[LATENCIES - 1] / 1_000);
    }

    private static void memory(PermitClient client) throws InterruptedException {
        long before = usedAfterCollection();
        AtomicLong done = new AtomicLong();
        while (done.get() < PERMITS) {
            done.addAndGet(rate(client, 256, TimeUnit.SECONDS.toNanos(1)));
        }
        long after = usedAfterCollection();
        System.out.printf(
                "heap in use: %.1f MiB before %d permits, %.1f MiB after%n", before / 1048576.0, done.get(), after / 1048576.0);
    }

    private static long usedAfterCollection() {
        System.gc();
        return Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory();
    }
}
