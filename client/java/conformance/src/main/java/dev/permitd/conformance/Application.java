package dev.permitd.conformance;

import com.google.gson.JsonObject;
import dev.permitd.client.ClientBuilder;
import dev.permitd.client.Grants;
import dev.permitd.client.Guard;
import dev.permitd.client.OutagePolicy;
import dev.permitd.client.PermitClient;
import dev.permitd.client.PermitException;
import dev.permitd.client.Report;
import dev.permitd.client.Request;
import dev.permitd.client.Tls;
import dev.permitd.client.Token;
import dev.permitd.client.http.PermitHttpClient;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.atomic.AtomicInteger;

/** An application that does what it is told. Commands come from one thread and never block; what they lead to is told by events. */
final class Application {
    private final Events events;

    /** Hands out every answer, so that events come in the order in which things happen. */
    private final ExecutorService answers = Executors.newSingleThreadExecutor();

    /** For what blocks. */
    private final ExecutorService blocking = Executors.newSingleThreadExecutor();

    private final Map<String, CompletableFuture<Guard>> asked = new ConcurrentHashMap<>();

    /** Requests for several permits. */
    private final Map<String, Grants> several = new HashMap<>();

    /** Those of them that were cancelled. */
    private final Set<String> withdrawn = ConcurrentHashMap.newKeySet();

    /** What was reported, cancelled or dropped. */
    private final Set<String> settled = new HashSet<>();

    private final Set<Thread> before;

    /** The newest is the one that is used. */
    private final List<CompletableFuture<PermitClient>> clients = new ArrayList<>();

    Application(Events events) {
        this.events = events;
        // Both have their thread from here on, so that it is not counted as left behind.
        answers.submit(() -> {});
        blocking.submit(() -> {});
        this.before = Threads.alive();
    }

    void connect(Fields command) {
        CompletableFuture<PermitClient> connecting = CompletableFuture.supplyAsync(() -> connected(command), blocking);
        clients.add(connecting);
        connecting.whenCompleteAsync(
                (made, problem) -> {
                    if (problem == null) {
                        events.write(Events.event("connected"));
                    } else {
                        events.failed(null, permitException(problem));
                    }
                },
                answers);
    }

    private PermitClient connected(Fields command) {
        ClientBuilder builder = PermitClient.builder()
                .endpoints(command.texts("endpoints"))
                .tenant(command.text("tenant"))
                .executor(answers);
        command.optionalText("outage")
                .ifPresent(policy -> builder.outagePolicy(OutagePolicy.valueOf(policy.toUpperCase(Locale.ROOT))));
        command.optionalText("ca").ifPresent(file -> builder.tls(Tls.system().caFile(Path.of(file))));
        command.optionalText("token").ifPresent(builder::token);
        command.optionalText("token_file").ifPresent(file -> builder.token(Token.file(Path.of(file))));
        command.millis("outage_after_ms").ifPresent(builder::outageAfter);
        command.millis("connect_timeout_ms").ifPresent(builder::connectTimeout);
        command.millis("keepalive_ms").ifPresent(builder::keepalive);
        try {
            return builder.connect();
        } catch (PermitException | InterruptedException problem) {
            throw new CompletionException(problem);
        }
    }

    private PermitClient client() {
        return clients.get(clients.size() - 1).join();
    }

    void acquire(Fields command) {
        String id = command.text("id");
        CompletableFuture<Guard> asking = client().acquireAsync(command.request());
        asked.put(id, asking);
        asking.whenCompleteAsync(
                (guard, problem) -> {
                    if (problem instanceof CancellationException) {
                        events.write(Events.event("cancelled", id));
                    } else if (problem != null) {
                        events.refused(id, permitException(problem));
                    } else {
                        events.granted(id, guard);
                    }
                },
                answers);
    }

    /** The permits of one request, each of which has an id of its own from there on. */
    void several(Fields command) {
        String id = command.text("id");
        Grants grants;
        try {
            grants = client().acquireMany(command.request(), command.number("count").orElseThrow());
        } catch (PermitException problem) {
            answers.execute(() -> events.refused(id, problem));
            return;
        }
        several.put(id, grants);
        blocking.execute(() -> {
            try {
                int number = 0;
                for (var guard = grants.next(); guard.isPresent(); guard = grants.next()) {
                    number++;
                    String own = id + number;
                    Guard granted = guard.get();
                    asked.put(own, CompletableFuture.completedFuture(granted));
                    answers.execute(() -> events.granted(own, granted));
                }
                boolean isWithdrawn = withdrawn.contains(id);
                answers.execute(() -> events.write(Events.event(isWithdrawn ? "cancelled" : "complete", id)));
            } catch (PermitException problem) {
                answers.execute(() -> events.refused(id, problem));
            } catch (InterruptedException impossible) {
                throw new IllegalStateException("nobody interrupts it", impossible);
            }
        });
    }

    void cancel(String id) {
        Grants grants = several.remove(id);
        if (grants != null) {
            withdrawn.add(id);
            grants.close();
            return;
        }
        CompletableFuture<Guard> asking = asked.get(id);
        if (asking.cancel(false) || asking.isCompletedExceptionally()) {
            return;
        }
        settled.add(id);
        asking.join().cancel();
        answers.execute(() -> events.write(Events.event("cancelled", id)));
    }

    void drop(String id) {
        asked.get(id).join().close();
        settled.add(id);
        answers.execute(() -> events.write(Events.event("dropped", id)));
    }

    void report(Fields command) {
        String id = command.text("id");
        Guard guard = asked.get(id).join();
        boolean isFirst = settled.add(id);
        guard.report(command.report())
                .whenCompleteAsync(
                        (advice, problem) -> {
                            if (!isFirst) {
                                events.write(Events.event("repeated", id));
                            } else if (problem != null) {
                                events.failed(id, permitException(problem));
                            } else {
                                events.reported(id, advice);
                            }
                        },
                        answers);
    }

    void call(Fields command) {
        List<Fields> script = command.all("answers");
        AtomicInteger made = new AtomicInteger();
        String id = command.text("id");
        client()
                .<Fields>caller()
                .attempts(command.number("attempts").orElse(4))
                .classify((answer, error) -> error == null ? answer.report() : Report.failed())
                .callAsync(command.request(), permit -> {
                    Fields answer = script.get(Math.min(made.getAndIncrement(), script.size() - 1));
                    return answer.isTrue("raises")
                            ? CompletableFuture.failedFuture(new IllegalStateException("as told"))
                            : CompletableFuture.completedFuture(answer);
                })
                .whenCompleteAsync(
                        (answer, problem) -> {
                            if (problem instanceof PermitException noPermit) {
                                events.refused(id, noPermit);
                                return;
                            }
                            JsonObject event = Events.event(problem == null ? "called" : "raised", id);
                            event.addProperty("attempts", made.get());
                            if (problem == null) {
                                event.addProperty("status", answer.number("status").orElse(null));
                            }
                            events.write(event);
                        },
                        answers);
    }

    void many(Fields command) {
        int count = command.number("count").orElseThrow();
        Request request = command.request();
        AtomicInteger granted = new AtomicInteger();
        AtomicInteger refused = new AtomicInteger();
        CompletableFuture<?>[] all = new CompletableFuture<?>[count];
        for (int at = 0; at < count; at++) {
            all[at] = client()
                    .acquireAsync(request)
                    .thenCompose(guard -> guard.report(Report.success()))
                    .handle((advice, problem) -> (problem == null ? granted : refused).incrementAndGet());
        }
        CompletableFuture.allOf(all).thenRunAsync(
                () -> {
                    JsonObject event = Events.event("many", command.text("id"));
                    event.addProperty("granted", granted.get());
                    event.addProperty("refused", refused.get());
                    events.write(event);
                },
                answers);
    }

    void http(Fields command) {
        String id = command.text("id");
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(command.text("url")));
        command.headers().forEach(request::header);
        request.method(command.text("method"), BodyPublishers.ofString(command.text("body")));
        HttpClient plain = HttpClient.newBuilder().executor(ForkJoinPool.commonPool()).build();
        PermitHttpClient.around(plain, client(), command.request())
                .sendAsync(request.build(), BodyHandlers.ofString())
                .whenCompleteAsync(
                        (response, problem) -> {
                            if (problem != null) {
                                events.refused(id, permitException(problem));
                                return;
                            }
                            JsonObject event = Events.event("responded", id);
                            event.addProperty("status", response.statusCode());
                            event.addProperty("body", response.body());
                            events.write(event);
                        },
                        answers);
    }

    void close() throws InterruptedException {
        asked.values().stream()
                .filter(asking -> asking.isDone() && !asking.isCompletedExceptionally())
                .forEach(asking -> asking.join().close());
        for (CompletableFuture<PermitClient> connecting : clients) {
            connecting.handle((made, problem) -> Optional.ofNullable(made)).join().ifPresent(PermitClient::close);
        }
        Set<Thread> leaked = Threads.leftSince(before);
        leaked.forEach(thread -> System.err.println("left behind: " + thread));
        // Behind every answer that is on its way.
        CompletableFuture.runAsync(
                        () -> {
                            JsonObject event = Events.event("closed");
                            event.addProperty("leaked", leaked.size());
                            events.write(event);
                        },
                        answers)
                .join();
    }

    private static PermitException permitException(Throwable problem) {
        Throwable cause = problem instanceof CompletionException ? problem.getCause() : problem;
        if (cause instanceof PermitException permitException) {
            return permitException;
        }
        throw new IllegalStateException("the library fails with a PermitException only", cause);
    }
}
