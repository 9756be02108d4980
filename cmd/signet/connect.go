package main

import (
	"context"
	"crypto/tls"
	"errors"

	"github.com/signetd/signet/clients/go/signet"
)

// dial makes a client for the server of the profile that calls with the given token.
func (a *app) dial(s selected, token signet.TokenSource) (*signet.Client, error) {
	if s.Server == "" {
		return nil, &exitError{code: exitUsage, err: errors.New("no server is known for profile " + s.name),
			next: "signet login --server HOST:PORT --ca FILE, or give --server and --ca with each call"}
	}
	options := signet.Options{Token: token, UserAgent: "signet/" + version, Timeout: a.timeout}
	if s.CA != "" {
		ca, err := readFile(s.CA, maxSmallFile)
		if err != nil {
			return nil, withNext(err, "give the file of the server's CA with --ca")
		}
		options.CA = ca
	}
	if (s.ClientCertificate == "") != (s.ClientKey == "") {
		return nil, usagef("--client-cert and --client-key belong together")
	}
	if s.ClientCertificate != "" {
		certificate, err := tls.LoadX509KeyPair(s.ClientCertificate, s.ClientKey)
		if err != nil {
			return nil, err
		}
		options.Certificate = &certificate
	}
	switch p, err := s.pinnedTrust(); {
	case err != nil:
		return nil, err
	case p != nil:
		options.Trust = &p.trust
	}
	client, err := signet.Dial(s.Server, options)
	if errors.Is(err, signet.ErrTarget) {
		return nil, usagef("%w", err)
	}
	return client, err
}

// connect makes a client that calls with the profile's session, or as the service of its client certificate.
func (a *app) connect() (*signet.Client, selected, error) {
	s, err := a.profile()
	if err != nil {
		return nil, s, err
	}
	if s.ClientCertificate != "" || s.Server == "" {
		client, err := a.dial(s, nil)
		return client, s, err
	}
	session, err := s.session()
	if err != nil {
		return nil, s, err
	}
	client, err := a.dial(s, signet.StaticToken(session.Token))
	return client, s, err
}

// online runs f with a connected client.
func (a *app) online(ctx context.Context, f func(ctx context.Context, client *signet.Client, s selected) error) error {
	client, s, err := a.connect()
	if err != nil {
		return err
	}
	defer hangUp(client)
	return f(ctx, client, s)
}

// hangUp ends a connection whose work is done: that it fails says nothing.
func hangUp(client *signet.Client) { _ = client.Close() }
