package permitd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// TLS is whom to trust, and what to show. What stands in files is read anew for every connection, so that certificates can be renewed
// under a running client.
type TLS struct {
	// Trusts these authorities, in PEM, and no others. Without them and CAFile, the system's.
	CA []byte
	// A file with them.
	CAFile string
	// Files with the certificate to be shown, those between it and its authority behind it, and with its key; both in PEM.
	CertFile, KeyFile string
	// The name that the server's certificate has to have; without it, the host of the endpoint.
	ServerName string
}

// What a connection to this endpoint is secured by; refuses what would not keep a secret.
func (o *Options) credentialsFor(endpoint endpoint) (credentials.TransportCredentials, *Error) {
	token, err := o.token()
	if err != nil {
		return nil, err
	}
	if endpoint.secure {
		config, err := o.TLS.config()
		if err != nil {
			return nil, err
		}
		return credentials.NewTLS(config), nil
	}
	if o.TLS != nil {
		return nil, invalid("endpoints", "%s is served in the clear; write https:// for TLS", endpoint.text)
	}
	if token != "" && !o.Insecure && !isLoopback(endpoint.host) {
		return nil, invalid("token", "would be sent in the clear to %s; use https://, or say that it may (Insecure)", endpoint.text)
	}
	return insecure.NewCredentials(), nil
}

// Puts the token into what a call carries.
func (o *Options) sign(ctx context.Context) (context.Context, *Error) {
	token, err := o.token()
	if err != nil || token == "" {
		return ctx, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), nil
}

// Empty if the client shows none.
func (o *Options) token() (string, *Error) {
	token := o.Token
	if o.TokenFile != "" {
		if token != "" {
			return "", invalid("token_file", "is given beside token; keep one of them")
		}
		text, err := os.ReadFile(o.TokenFile)
		if err != nil {
			return "", invalid("token_file", "can't be read: %v", err)
		}
		token = string(text)
	} else if token == "" {
		return "", nil
	}
	token = strings.TrimSpace(token)
	notOfTokens := func(r rune) bool { return r <= ' ' || r > '~' }
	if token == "" || strings.ContainsFunc(token, notOfTokens) {
		return "", invalid("token", "is empty, or has characters that no token has")
	}
	return token, nil
}

func (t *TLS) config() (*tls.Config, *Error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t == nil {
		return config, nil
	}
	config.ServerName = t.ServerName
	authorities := t.CA
	if t.CAFile != "" {
		text, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, invalid("tls.ca_file", "can't be read: %v", err)
		}
		authorities = bytes.Join([][]byte{authorities, text}, []byte("\n"))
	}
	if authorities != nil {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, invalid("tls.ca", "has no certificate in PEM")
		}
	}
	if t.CertFile != "" || t.KeyFile != "" {
		identity, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, invalid("tls.cert_file", "can't be used with its key: %v", err)
		}
		config.Certificates = []tls.Certificate{identity}
	}
	return config, nil
}

// Whether a host can only be this machine.
func isLoopback(host string) bool {
	address := net.ParseIP(host)
	return host == "localhost" || address != nil && address.IsLoopback()
}
