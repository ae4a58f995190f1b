package dev.permitd.client;

import java.util.List;
import java.util.concurrent.Executor;

/**
 * What the builder has checked.
 *
 * @param endpoints tried in this order; at least one
 * @param tenant of requests that name none
 * @param name what the server's operator sees
 * @param policy while no server can be reached
 * @param outageAfter nanoseconds without a session before the policy holds
 * @param connectTimeout nanoseconds for one attempt to open a session
 * @param keepalive nanoseconds between probes of a silent connection
 * @param waitingMax requests that wait at the server at once
 * @param executor where answers are handed over to code that is not ours
 */
record Settings(
        List<Endpoint> endpoints,
        String tenant,
        String name,
        OutagePolicy policy,
        long outageAfter,
        long connectTimeout,
        long keepalive,
        int waitingMax,
        Executor executor) {}
