package dev.permitd.client;

import io.grpc.ManagedChannel;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.EventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.MultiThreadIoEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.nio.NioIoHandler;
import io.grpc.netty.shaded.io.netty.channel.socket.nio.NioSocketChannel;
import java.util.concurrent.Executor;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/** The threads and sockets below sessions. Its own, so that none is left once it is closed. */
final class Transport {
    /** Bytes of one answer. The server bounds its own. */
    private static final int RESPONSE_BYTES_MAX = 16 * 1024 * 1024;

    /** Room for what is in flight on the one stream and its connection, in bytes. */
    private static final int WINDOW_BYTES = 4 * 1024 * 1024;

    /** How long sockets are given to close, in milliseconds. */
    private static final long CLOSE_MILLIS = 2_000;

    private final Executor executor;
    private final long keepalive;
    private final EventLoopGroup sockets;

    /** Asks for addresses, which blocks. */
    private final ThreadPoolExecutor resolver;

    /** The newest connection; those before it have been told to end. */
    private ManagedChannel last;

    /** Calls back on {@code executor}; probes silent connections every {@code keepalive} nanoseconds. */
    Transport(Executor executor, long keepalive, Threads threads) {
        this.executor = executor;
        this.keepalive = keepalive;
        this.sockets = new MultiThreadIoEventLoopGroup(1, threads.named("io"), NioIoHandler.newFactory());
        this.resolver = new ThreadPoolExecutor(
                0, 1, 1, TimeUnit.SECONDS, new LinkedBlockingQueue<>(), threads.named("resolver"));
    }

    /** A new connection, made when it is first used. Each has its own, so that credentials are read anew. */
    ManagedChannel open(Endpoint endpoint) throws PermitException {
        NettyChannelBuilder builder = NettyChannelBuilder.forAddress(endpoint.host(), endpoint.port(), endpoint.credentials())
                .executor(executor)
                .offloadExecutor(resolver)
                .eventLoopGroup(sockets)
                .channelType(NioSocketChannel.class)
                .keepAliveTime(keepalive, TimeUnit.NANOSECONDS)
                .keepAliveTimeout(keepalive / 2, TimeUnit.NANOSECONDS)
                .keepAliveWithoutCalls(true)
                .initialFlowControlWindow(WINDOW_BYTES)
                .maxInboundMessageSize(RESPONSE_BYTES_MAX)
                .disableRetry();
        if (endpoint.isSecure() && endpoint.secrets().tls() != null) {
            endpoint.secrets().tls().serverName().ifPresent(builder::overrideAuthority);
        }
        last = builder.build();
        return last;
    }

    /** Ends the last connection, then its threads, then runs {@code done}; all of that on a thread that may wait. */
    void close(Runnable done) {
        resolver.execute(() -> {
            try {
                if (last != null) {
                    last.shutdownNow().awaitTermination(CLOSE_MILLIS, TimeUnit.MILLISECONDS);
                }
                sockets.shutdownGracefully(0, CLOSE_MILLIS, TimeUnit.MILLISECONDS).await(CLOSE_MILLIS);
            } catch (InterruptedException impossible) {
                throw new IllegalStateException("nobody else has this thread", impossible);
            } finally {
                done.run();
            }
        });
        resolver.shutdown();
    }
}
