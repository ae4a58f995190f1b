/**
 * Permits for HTTP clients that are there already: {@link dev.permitd.client.http.PermitHttpClient} for {@code java.net.http}, and
 * {@link dev.permitd.client.http.PermitInterceptor} for OkHttp. {@link dev.permitd.client.http.TokenEstimate} and
 * {@link dev.permitd.client.http.UsageReader} are what they read, for adapters of other clients.
 */
package dev.permitd.client.http;
