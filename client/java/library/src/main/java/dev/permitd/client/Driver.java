package dev.permitd.client;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import permitd.v1.PermitOuterClass.ReportResponse;
import permitd.v1.Session.Granted;
import permitd.v1.Session.LocalShare;
import permitd.v1.Session.Refused;
import permitd.v1.Session.SessionRequest;
import permitd.v1.Session.SessionResponse;

/**
 * The one thread behind a client: it keeps a session open, sends whatever is ready in one message, hands out answers, and stands in for
 * the server, by the outage policy, while none can be reached. It never waits for callers, and callers never wait for it but for an
 * answer.
 */
final class Driver implements Link.Events {
    /** How long a close waits for answers to reports, in nanoseconds. */
    static final long CLOSE_WAIT = 5_000_000_000L;

    /** How long a server that drains is still given for the answers to reports, in nanoseconds. */
    private static final long DRAIN_PATIENCE = 500_000_000L;

    /** Commands after which whatever is ready goes out, even if more are there. */
    private static final int COMMANDS_MAX = 4_000;

    /** Requests that wait in the client for one of those at the server to be answered. Past it they are refused at once. */
    private static final int PARKED_MAX = 100_000;

    private final Settings settings;
    private final Threads threads = new Threads();
    private final ScheduledThreadPoolExecutor thread = new ScheduledThreadPoolExecutor(1, threads.named("driver"));
    private final Transport transport;
    private final Mailbox mailbox = new Mailbox(thread, this::turn);
    private final Guards guards = new Guards(mailbox);
    private final Table table;
    private final StandIn standIn;
    private final Link link;
    private final Outage outage = new Outage(System.nanoTime());

    /** From 1: 0 is the wire's "none". */
    private final AtomicLong nextNumber = new AtomicLong(1);

    /** Requests that the server is not asked for yet, in order. */
    private final Map<Long, Waiting> parked = new LinkedHashMap<>();

    /** Done when the first session stands, or the outage policy takes over. */
    private final CompletableFuture<Void> ready = new CompletableFuture<>();

    /** Done when nothing is left but threads that end. */
    private final CompletableFuture<Void> ended = new CompletableFuture<>();

    private volatile boolean isConnected;

    /** When the session with a server that drains is left; null if it is not. */
    private Long leavesAt;

    /** When the driver ends, whatever is unanswered; null if nobody closed it. */
    private Long endsAt;

    private Future<?> alarm;
    private long alarmAt;
    private boolean isEnding;

    Driver(Settings settings) {
        this.settings = settings;
        thread.setRemoveOnCancelPolicy(true);
        thread.setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
        transport = new Transport(thread, settings.keepalive(), threads);
        table = new Table(this::guard, settings.executor(), this::nextNumber);
        standIn = new StandIn(settings, table, guards, asked -> thread.execute(() -> onWantingMore(asked)));
        link = new Link(settings, thread, transport, this);
        thread.execute(() -> {
            link.dial();
            turn();
        });
    }

    // For callers, from any thread.

    CompletableFuture<Void> ready() {
        return ready;
    }

    boolean isConnected() {
        return isConnected;
    }

    /** For a request; never the same twice. */
    long nextNumber() {
        return nextNumber.getAndIncrement();
    }

    void acquire(Waiting asked) {
        mailbox.push(() -> onAcquire(asked), () -> asked.refuse(PermitException.closed()));
    }

    void cancel(long requestId) {
        mailbox.push(() -> onCancel(requestId), () -> {});
    }

    /** Ends politely, and waits until no thread is left. An interrupt ends only the waiting, and is kept. */
    void close() {
        mailbox.push(this::onClose, () -> {});
        try {
            ended.get();
            threads.join(CLOSE_WAIT);
        } catch (InterruptedException hurry) {
            Thread.currentThread().interrupt();
        } catch (java.util.concurrent.ExecutionException impossible) {
            throw new IllegalStateException("the end of a driver has no exception", impossible);
        }
    }

    // The turn: whatever woke it, everything that is ready by now goes along.

    private void turn() {
        if (isEnding) {
            return;
        }
        mailbox.rest();
        Mailbox.Command command;
        for (int taken = 0; taken < COMMANDS_MAX && takesMore() && (command = mailbox.take()) != null; taken++) {
            command.run().run();
        }
        guards.sweep();
        long now = System.nanoTime();
        onTime(now);
        admit();
        flush(now);
        if (isDone(now)) {
            end();
            return;
        }
        setAlarm();
        if (takesMore() && !mailbox.isEmpty()) {
            mailbox.wake();
        }
    }

    private boolean takesMore() {
        return !link.isUp() || table.hasRoom();
    }

    private void flush(long now) {
        while (table.hasOutgoing() && link.isWritable()) {
            SessionRequest message = table.message(now);
            if (!message.equals(SessionRequest.getDefaultInstance())) {
                link.send(message);
            }
        }
    }

    private void admit() {
        var next = parked.values().iterator();
        while (next.hasNext() && table.waitingCount() < settings.waitingMax()) {
            Waiting asked = next.next();
            next.remove();
            ask(asked);
        }
    }

    private boolean isDone(long now) {
        if (endsAt == null) {
            return false;
        }
        boolean saidAll = !table.isReporting() && !table.hasOutgoing();
        return saidAll || outage.isActive || now - endsAt >= 0;
    }

    private void end() {
        isEnding = true;
        isConnected = false;
        link.end(() -> {
            table.abandon();
            mailbox.shut();
            ready.completeExceptionally(PermitException.closed());
            transport.close(() -> {
                thread.shutdown();
                ended.complete(null);
            });
        });
    }

    /** The next moment at which something has to be done unasked. */
    private void setAlarm() {
        Long at = earlier(leavesAt, endsAt);
        if (outage.since != null && outage.isTried && !outage.isActive) {
            at = earlier(at, outage.since + settings.outageAfter());
        }
        if (link.isUp()) {
            at = earlier(at, table.nextSweep());
        }
        if (outage.isActive) {
            at = earlier(at, standIn.local().nextPoll());
        }
        if (alarm != null && at != null && at == alarmAt && !alarm.isDone()) {
            return;
        }
        if (alarm != null) {
            alarm.cancel(false);
        }
        alarm = null;
        if (at != null) {
            alarmAt = at;
            alarm = thread.schedule(this::turn, Math.max(0, at - System.nanoTime()), TimeUnit.NANOSECONDS);
        }
    }

    private void onTime(long now) {
        if (link.isUp()) {
            table.sweep(now);
            if (leavesAt != null && (now - leavesAt >= 0 || !table.isReporting())) {
                link.leave();
                lost(new Problem("the server is about to stop", false, true));
            }
        } else if (outage.isDue(now, settings.outageAfter())) {
            beginOutage(now);
        }
        if (outage.isActive) {
            standIn.local().poll(now, outage.problem);
        }
    }

    // The callers.

    private void onAcquire(Waiting asked) {
        if (endsAt != null) {
            asked.refuse(PermitException.closed());
            return;
        }
        if (asked.isAnswered()) {
            return;
        }
        if (asked.patience() < Spans.FOREVER) {
            long left = asked.patience() - (System.nanoTime() - asked.askedAt);
            asked.bound = thread.schedule(() -> onGivingUp(asked), Math.max(0, left), TimeUnit.NANOSECONDS);
        }
        if (parked.isEmpty() && table.waitingCount() < settings.waitingMax()) {
            ask(asked);
        } else if (parked.size() < PARKED_MAX) {
            parked.put(asked.id(), asked);
        } else {
            asked.refuse(PermitException.clientFull(settings.waitingMax()));
        }
    }

    private void ask(Waiting asked) {
        table.acquire(asked);
        if (outage.isActive) {
            standIn.answer(asked, outage.problem, System.nanoTime());
        }
    }

    private void onGivingUp(Waiting asked) {
        if (parked.containsKey(asked.id())) {
            onCancel(asked.id());
            asked.refuse(PermitException.clientFull(settings.waitingMax()));
        } else if (!asked.isAnswered()) {
            onCancel(asked.id());
            asked.refuse(asked.givingUp());
        }
        turn();
    }

    private void onCancel(long requestId) {
        Waiting left = parked.remove(requestId);
        Waiting gone = left == null ? table.cancel(requestId) : left;
        if (gone != null && gone.bound != null) {
            gone.bound.cancel(false);
        }
        standIn.local().cancel(requestId, System.nanoTime());
    }

    private void onReport(String permitId, Report report, CompletableFuture<Advice> answer) {
        CompletableFuture<Advice> wanted = answer;
        if (outage.isActive) {
            if (answer != null) {
                PermitException kept = PermitException.reportKept(outage.problem);
                Handing.by(settings.executor(), () -> answer.completeExceptionally(kept));
            }
            wanted = null;
            String budget = table.budgetOfLive(permitId);
            if (budget != null) {
                standIn.local().ended(budget, System.nanoTime());
            }
        }
        table.report(permitId, report, wanted);
    }

    private void onClose() {
        table.close();
        parked.values().forEach(asked -> asked.refuse(PermitException.closed()));
        parked.clear();
        if (endsAt == null) {
            endsAt = System.nanoTime() + CLOSE_WAIT;
        }
    }

    // The server.

    @Override
    public void onUp(boolean resumed, SessionResponse first) {
        outage.end(System.nanoTime());
        leavesAt = null;
        standIn.local().leave();
        table.welcome(resumed, System.nanoTime());
        isConnected = true;
        ready.complete(null);
        onResponse(first);
    }

    @Override
    public void onResponse(SessionResponse response) {
        long now = System.nanoTime();
        if (response.getGrantedCount() + response.getRefusedCount() + response.getReportedCount() > 0) {
            outage.proven();
        }
        for (Granted granted : response.getGrantedList()) {
            table.granted(granted, now);
        }
        for (Refused refused : response.getRefusedList()) {
            if (table.refused(refused, now) && leavesAt == null) {
                leavesAt = now + DRAIN_PATIENCE;
            }
        }
        for (ReportResponse answer : response.getReportedList()) {
            table.answered(answer);
        }
        for (LocalShare share : response.getSharesList()) {
            standIn.local().learn(share, now);
        }
        turn();
    }

    @Override
    public void onWritable() {
        turn();
    }

    @Override
    public void onLost(Problem problem) {
        lost(problem);
        turn();
    }

    /** No session: either one broke or an attempt failed. */
    private void lost(Problem problem) {
        if (isEnding) {
            return;
        }
        long now = System.nanoTime();
        leavesAt = null;
        isConnected = false;
        boolean wasUp = outage.lost(problem, now);
        link.retry(problem.isElsewhere() || problem.isDefinitive() || !wasUp);
        if (outage.definitive >= settings.endpoints().size() && !outage.isActive) {
            beginOutage(now);
        }
    }

    // In the server's place.

    private void beginOutage(long now) {
        outage.isActive = true;
        if (settings.policy() == OutagePolicy.FAIL_CLOSED) {
            ready.completeExceptionally(PermitException.noServer(outage.problem));
        } else {
            ready.complete(null);
        }
        table.letReportersGo(outage.problem);
        table.allWaiting().forEach(asked -> standIn.answer(asked, outage.problem, now));
    }

    private void onWantingMore(Waiting asked) {
        if (outage.isActive && table.waiting(asked.id()) == asked) {
            standIn.answer(asked, outage.problem, System.nanoTime());
        }
        turn();
    }

    private Guard guard(Permit permit) {
        String permitId = permit.permitId();
        return guards.guard(permit, (report, answer) -> onReport(permitId, report, answer));
    }

    private static Long earlier(Long one, Long other) {
        if (one == null || other == null) {
            return one == null ? other : one;
        }
        return one - other <= 0 ? one : other;
    }
}
