/**
 * The Java client of permitd, the rate-limit permit service: ask for a permit before each outbound call, report afterwards how it went.
 *
 * <p>A permitd server holds the request, token and concurrency budgets of every (provider, key). All services that call the same API
 * ask it, and get their permits from one fair queue, as fast as the provider allows and no faster.
 *
 * <table>
 * <caption>The map</caption>
 * <tr><th>to</th><th>use</th></tr>
 * <tr><td>connect</td><td>{@link dev.permitd.client.PermitClient#connect}, or {@link dev.permitd.client.ClientBuilder} for several
 *     endpoints, TLS, a token, a tenant, an outage policy</td></tr>
 * <tr><td>get a permit</td><td>{@link dev.permitd.client.PermitClient#acquire}, which gives a
 *     {@link dev.permitd.client.Guard}</td></tr>
 * <tr><td>say how it went</td><td>{@link dev.permitd.client.Guard#report}; the answer is an
 *     {@link dev.permitd.client.Advice}</td></tr>
 * <tr><td>do it all in one</td><td>{@link dev.permitd.client.PermitClient#call}; with retries and a closer look at results,
 *     {@link dev.permitd.client.Caller}</td></tr>
 * <tr><td>know why not</td><td>{@link dev.permitd.client.PermitException}</td></tr>
 * </table>
 *
 * <p>No parameter takes null, and no method returns it, unless its documentation says so.
 */
package dev.permitd.client;
