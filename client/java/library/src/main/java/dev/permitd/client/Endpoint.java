package dev.permitd.client;

import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Metadata;
import java.net.URI;
import java.net.URISyntaxException;
import java.util.Set;

/**
 * One server: where it is, how it proves who it is, and what it is shown. Parsed from {@code http://HOST:PORT} or
 * {@code https://HOST:PORT}.
 */
record Endpoint(String address, String host, int port, boolean isSecure, Secrets secrets) {
    private static final Metadata.Key<String> AUTHORIZATION =
            Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    /** Hosts that can only be this machine, but for the rest of 127.0.0.0/8. */
    private static final Set<String> LOOPBACK = Set.of("localhost", "::1", "0:0:0:0:0:0:0:1");

    /**
     * What a client shows and wants to be shown.
     *
     * @param tls absent: the JVM's authorities for https, nothing for http
     * @param token absent: nothing
     * @param insecure whether the token may go to other machines in the clear
     */
    record Secrets(Tls tls, Token token, boolean insecure) {}

    /** Checks everything that can be checked before a connection. */
    static Endpoint parse(String text, Secrets secrets) throws PermitException {
        String address = text.contains("://") ? text : "http://" + text;
        URI uri;
        try {
            uri = new URI(address);
        } catch (URISyntaxException garbage) {
            throw noAddress(text);
        }
        boolean isSecure = "https".equals(uri.getScheme());
        if (uri.getHost() == null || !(isSecure || "http".equals(uri.getScheme()))) {
            throw noAddress(text);
        }
        String host = uri.getHost().replaceAll("^\\[|]$", "");
        int port = uri.getPort() >= 0 ? uri.getPort() : isSecure ? 443 : 80;
        Endpoint endpoint = new Endpoint(address, host, port, isSecure, secrets);
        endpoint.credentials();
        endpoint.metadata();
        return endpoint;
    }

    /** Read anew each time, since files may change. */
    ChannelCredentials credentials() throws PermitException {
        if (isSecure) {
            return (secrets.tls() == null ? Tls.system() : secrets.tls()).credentials();
        }
        if (secrets.tls() != null) {
            throw PermitException.invalid("endpoints", address + " is served in the clear; write https:// for TLS");
        }
        if (secrets.token() != null && !secrets.insecure() && !isLoopback()) {
            throw PermitException.invalid(
                    "token",
                    "would be sent in the clear to " + address + "; use https://, or say that it may (insecure)");
        }
        return InsecureChannelCredentials.create();
    }

    /** The token, if there is one. */
    Metadata metadata() throws PermitException {
        Metadata metadata = new Metadata();
        if (secrets.token() != null) {
            metadata.put(AUTHORIZATION, secrets.token().bearer());
        }
        return metadata;
    }

    private boolean isLoopback() {
        return LOOPBACK.contains(host) || host.matches("127\\.\\d+\\.\\d+\\.\\d+");
    }

    private static PermitException noAddress(String text) {
        return PermitException.invalid("endpoints", "\"" + text + "\" is no address; write http://HOST:PORT");
    }
}
