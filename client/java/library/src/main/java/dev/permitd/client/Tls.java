package dev.permitd.client;

import dev.permitd.client.Token.Source;
import io.grpc.ChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Objects;
import java.util.Optional;

/**
 * What TLS takes: whom to trust, and what to show. Without more, the authorities of the JVM are trusted and nothing is shown. Files are
 * read anew for every connection, so that certificates can be renewed under a running client. Immutable.
 *
 * <pre>{@code
 * Tls tls = Tls.system().caFile(Path.of("/etc/permitd/ca.pem"))
 *         .identityFiles(Path.of("/run/me.pem"), Path.of("/run/me.key"));
 * }</pre>
 */
public final class Tls {
    private static final String PEM_HEAD = "-----BEGIN CERTIFICATE-----";

    private final Source ca;
    private final Source cert;
    private final Source key;
    private final String serverName;

    private Tls(Source ca, Source cert, Source key, String serverName) {
        this.ca = ca;
        this.cert = cert;
        this.key = key;
        this.serverName = serverName;
    }

    /** The authorities of the JVM, and nothing to show. */
    public static Tls system() {
        return new Tls(null, null, null, null);
    }

    /** Trusts these authorities, in PEM, and no others. */
    public Tls caPem(String pem) {
        return new Tls(text(pem, "pem"), cert, key, serverName);
    }

    /** Trusts the authorities in this file, in PEM, and no others. */
    public Tls caFile(Path path) {
        return new Tls(file(path, "path"), cert, key, serverName);
    }

    /** Shows this certificate, with those between it and its authority behind it; and its key (PKCS#8). Both in PEM. */
    public Tls identityPem(String cert, String key) {
        return new Tls(ca, text(cert, "cert"), text(key, "key"), serverName);
    }

    /** Shows the certificate in one file, with the key (PKCS#8) in the other. Both in PEM. */
    public Tls identityFiles(Path cert, Path key) {
        return new Tls(ca, file(cert, "cert"), file(key, "key"), serverName);
    }

    /** The name that the server's certificate has to have; without it, the host of the endpoint. */
    public Tls serverName(String name) {
        return new Tls(ca, cert, key, Objects.requireNonNull(name, "name"));
    }

    Optional<String> serverName() {
        return Optional.ofNullable(serverName);
    }

    ChannelCredentials credentials() throws PermitException {
        TlsChannelCredentials.Builder builder = TlsChannelCredentials.newBuilder();
        try {
            if (ca != null) {
                byte[] pem = ca.read("tls.ca");
                if (!new String(pem, StandardCharsets.ISO_8859_1).contains(PEM_HEAD)) {
                    throw PermitException.invalid("tls.ca", ca + " has no certificate in PEM");
                }
                builder.trustManager(new ByteArrayInputStream(pem));
            }
            if (cert != null) {
                builder.keyManager(
                        new ByteArrayInputStream(cert.read("tls.identity")),
                        new ByteArrayInputStream(key.read("tls.identity")));
            }
        } catch (PermitException told) {
            throw told;
        } catch (IOException problem) {
            throw PermitException.invalid("tls", "can't be used: " + problem.getMessage());
        }
        return builder.build();
    }

    @Override
    public String toString() {
        return "Tls{ca=" + ca + ", cert=" + cert + ", key=" + key + ", serverName=" + serverName + "}";
    }

    private static Source text(String text, String name) {
        return new Source(Objects.requireNonNull(text, name).getBytes(StandardCharsets.UTF_8), null);
    }

    private static Source file(Path path, String name) {
        return new Source(null, Objects.requireNonNull(path, name));
    }
}
