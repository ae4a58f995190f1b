package dev.permitd.client;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Executor;
import java.util.concurrent.ForkJoinPool;

/**
 * Builds a {@link PermitClient}: everything that can be set about one, checked before anything is connected.
 *
 * <pre>{@code
 * PermitClient client = PermitClient.builder()
 *         .endpoint("http://permitd-a:7110")
 *         .endpoint("http://permitd-b:7110")
 *         .tenant("checkout")
 *         .outagePolicy(OutagePolicy.LOCAL_SHARE)
 *         .connect();
 * }</pre>
 */
public final class ClientBuilder {
    private static final String NAME = "permitd-client-java/0.1.0";

    private final List<String> endpoints = new ArrayList<>();
    private Tls tls;
    private Token token;
    private boolean insecure;
    private String tenant = "";
    private String name = NAME;
    private OutagePolicy policy = OutagePolicy.FAIL_CLOSED;
    private Duration outageAfter = Duration.ofSeconds(3);
    private Duration connectTimeout = Duration.ofSeconds(2);
    private Duration keepalive = Duration.ofSeconds(10);
    private int waitingMax = 10_000;
    private Executor executor = ForkJoinPool.commonPool();

    ClientBuilder() {}

    /** One more server, as {@code http://HOST:PORT} or {@code https://HOST:PORT}. They are tried in this order. */
    public ClientBuilder endpoint(String endpoint) {
        endpoints.add(Objects.requireNonNull(endpoint, "endpoint"));
        return this;
    }

    /** More servers. */
    public ClientBuilder endpoints(Collection<String> endpoints) {
        Objects.requireNonNull(endpoints, "endpoints").forEach(this::endpoint);
        return this;
    }

    /** Whom to trust, and what to show, where endpoints are {@code https://}. Default: the JVM's authorities, and nothing. */
    public ClientBuilder tls(Tls tls) {
        this.tls = Objects.requireNonNull(tls, "tls");
        return this;
    }

    /** Shows a token, which says who this client is. It is not sent in the clear to other machines. */
    public ClientBuilder token(Token token) {
        this.token = Objects.requireNonNull(token, "token");
        return this;
    }

    /** {@link #token(Token)} with the token itself. */
    public ClientBuilder token(String token) {
        return token(Token.of(token));
    }

    /**
     * Sends the token to {@code http://} endpoints on other machines too, where whoever is on the way can read it: only where the
     * network itself keeps strangers out.
     */
    public ClientBuilder insecure() {
        this.insecure = true;
        return this;
    }

    /** Who shares the budgets: the tenant of requests that name none. Use one per service, team or job. */
    public ClientBuilder tenant(String tenant) {
        this.tenant = Objects.requireNonNull(tenant, "tenant");
        return this;
    }

    /** What the server's operator sees of this client; by default this library and its version. */
    public ClientBuilder name(String name) {
        this.name = Objects.requireNonNull(name, "name");
        return this;
    }

    /** What becomes of requests while no server can be reached. Default: {@link OutagePolicy#FAIL_CLOSED}. */
    public ClientBuilder outagePolicy(OutagePolicy policy) {
        this.policy = Objects.requireNonNull(policy, "policy");
        return this;
    }

    /**
     * How long no server can be reached before the outage policy takes over; until then requests wait. Default: 3 s. Shorter than a
     * server's restart, callers notice each of them. The first attempt is waited for in any case.
     */
    public ClientBuilder outageAfter(Duration span) {
        this.outageAfter = Objects.requireNonNull(span, "span");
        return this;
    }

    /** How long one attempt to open a session may take. Default: 2 s. */
    public ClientBuilder connectTimeout(Duration timeout) {
        this.connectTimeout = Objects.requireNonNull(timeout, "timeout");
        return this;
    }

    /**
     * How often a silent connection is probed; one that gives no answer for half of that again is given up. Default: 10 s, which is
     * also the least that the transport does.
     */
    public ClientBuilder keepalive(Duration interval) {
        this.keepalive = Objects.requireNonNull(interval, "interval");
        return this;
    }

    /**
     * How many requests wait at the server at once; more wait in this client, at most 100,000. Default: 10,000, which is the server's
     * bound for a session.
     */
    public ClientBuilder waitingMax(int requests) {
        this.waitingMax = requests;
        return this;
    }

    /** Where the futures of this client are completed, and so where what depends on them runs. Default: the common pool. */
    public ClientBuilder executor(Executor executor) {
        this.executor = Objects.requireNonNull(executor, "executor");
        return this;
    }

    /**
     * Opens the session, and waits for it until the outage policy takes over.
     *
     * @throws PermitException {@linkplain PermitException#isInvalid invalid}: a setting makes no sense; {@linkplain
     *     PermitException#isUnavailable unavailable}: no server can be reached, and the policy is to fail
     * @throws InterruptedException the thread was interrupted; nothing is left open
     */
    public PermitClient connect() throws PermitException, InterruptedException {
        PermitClient client = connectLazily();
        try {
            client.awaitReady();
        } catch (PermitException | InterruptedException problem) {
            client.close();
            throw problem;
        }
        return client;
    }

    /**
     * Opens the session in the background, and does not wait for it.
     *
     * @throws PermitException {@linkplain PermitException#isInvalid invalid}: a setting makes no sense
     */
    public PermitClient connectLazily() throws PermitException {
        return new PermitClient(check());
    }

    private Settings check() throws PermitException {
        if (endpoints.isEmpty()) {
            throw PermitException.invalid("endpoints", "none given; the default server is http://127.0.0.1:7110");
        }
        Request.checkName("tenant", tenant);
        Request.checkName("name", name);
        if (waitingMax < 1) {
            throw PermitException.invalid("waitingMax", waitingMax + " is less than 1; at least one has to be able to wait");
        }
        Endpoint.Secrets secrets = new Endpoint.Secrets(tls, token, insecure);
        List<Endpoint> parsed = new ArrayList<>();
        for (String endpoint : endpoints) {
            parsed.add(Endpoint.parse(endpoint, secrets));
        }
        return new Settings(
                List.copyOf(parsed),
                tenant,
                name,
                policy,
                Spans.nanos(outageAfter),
                positive("connectTimeout", connectTimeout),
                positive("keepalive", keepalive),
                waitingMax,
                executor);
    }

    private static long positive(String field, Duration span) throws PermitException {
        if (span.isZero() || span.isNegative()) {
            throw PermitException.invalid(field, "is " + span + "; give it some time");
        }
        return Spans.nanos(span);
    }
}
