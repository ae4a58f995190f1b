package dev.permitd.client.http;

import java.io.IOException;
import okhttp3.MediaType;
import okhttp3.RequestBody;
import okhttp3.Response;
import okhttp3.ResponseBody;
import okio.Buffer;
import okio.BufferedSource;
import okio.ForwardingSource;
import okio.Okio;

/** OkHttp's bodies: those that go out, read; those that come in, read along. */
final class OkBodies {
    private OkBodies() {}

    /**
     * A request's body.
     *
     * @param body null if it is not known
     * @param isRepeatable whether it can be sent again
     */
    record Sent(byte[] body, boolean isRepeatable) {}

    static Sent read(RequestBody body) throws IOException {
        if (body == null) {
            return new Sent(null, true);
        }
        if (body.isOneShot() || body.isDuplex()) {
            return new Sent(null, false);
        }
        long length = body.contentLength();
        if (length < 0 || length > Exchange.REQUEST_BYTES_MAX) {
            return new Sent(null, true);
        }
        Buffer buffer = new Buffer();
        body.writeTo(buffer);
        return new Sent(buffer.readByteArray(), true);
    }

    /** The same response, with a body that reports when it has ended or is closed. */
    static Response tapped(Response response, Exchange exchange) {
        ResponseBody body = response.body();
        if (body == null) {
            exchange.letGo(response.code(), response.headers().toMultimap());
            return response;
        }
        BufferedSource source = Okio.buffer(new Tapped(response, body, exchange));
        return response.newBuilder().body(new TappedBody(body, source)).build();
    }

    private static final class Tapped extends ForwardingSource {
        private final Response response;
        private final Exchange exchange;
        private final UsageReader usage;

        Tapped(Response response, ResponseBody body, Exchange exchange) {
            super(body.source());
            this.response = response;
            this.exchange = exchange;
            this.usage = new UsageReader(response.header("content-type"));
        }

        @Override
        public long read(Buffer sink, long byteCount) throws IOException {
            long count;
            try {
                count = super.read(sink, byteCount);
            } catch (IOException broken) {
                exchange.failed();
                throw broken;
            }
            if (count < 0) {
                exchange.ended(response.code(), response.headers().toMultimap(), usage.end());
                return count;
            }
            Buffer read = new Buffer();
            sink.copyTo(read, sink.size() - count, count);
            byte[] bytes = read.readByteArray();
            usage.add(bytes, 0, bytes.length);
            return count;
        }

        @Override
        public void close() throws IOException {
            exchange.letGo(response.code(), response.headers().toMultimap());
            super.close();
        }
    }

    private static final class TappedBody extends ResponseBody {
        private final ResponseBody body;
        private final BufferedSource source;

        TappedBody(ResponseBody body, BufferedSource source) {
            this.body = body;
            this.source = source;
        }

        @Override
        public MediaType contentType() {
            return body.contentType();
        }

        @Override
        public long contentLength() {
            return body.contentLength();
        }

        @Override
        public BufferedSource source() {
            return source;
        }
    }
}
