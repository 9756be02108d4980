// Package worker is a worker process of keystore/isolate that runs a PKCS#11 token: [Open] is for the service, and
// [Main] is what the command does that the service starts.
package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/isolate"
	"github.com/signetd/signet/keystore/pkcs11"
)

// settings is a pkcs11.Config on its way to a worker. The PIN takes another one.
type settings struct {
	Module        string
	TokenLabel    string
	Serial        string
	URI           string
	Sessions      int
	SessionCopies bool
	SoftHSMConf   string
	Queue         int
	Hang          time.Duration
	Grace         time.Duration
}

// Open opens a token in worker processes. Of the processes' configuration it sets what follows from the token's: Settings, PIN
// and, unless they are set, Queue, Hang and Grace. Sessions are those of each process.
func Open(ctx context.Context, token pkcs11.Config, processes isolate.Config) (*isolate.Token, error) {
	if processes.Queue == 0 {
		processes.Queue = token.Queue
	}
	if processes.Grace == 0 {
		processes.Grace = token.Grace
	}
	// Both ends must mean the same by a call that hangs: the worker knows which of its calls do, and the service acts on it.
	if processes.Hang == 0 {
		processes.Hang = token.Hang
	}
	token.Hang = processes.Hang
	b, err := json.Marshal(settings{
		Module: token.Module, TokenLabel: token.TokenLabel, Serial: token.Serial, URI: token.URI, Sessions: token.Sessions,
		SessionCopies: token.SessionCopies, SoftHSMConf: token.SoftHSMConf, Queue: token.Queue, Hang: token.Hang, Grace: token.Grace,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keystore.ErrInvalid, err)
	}
	processes.Settings, processes.PIN = b, token.PIN
	return isolate.Open(ctx, processes)
}

// Main does what the service asks, until it says that it is enough or has gone. The program ends after that; it fails at
// once if it was not started by [Open].
func Main(ctx context.Context) error {
	conn, err := isolate.Inherited()
	if err != nil {
		return err
	}
	return isolate.Serve(ctx, conn, OpenToken)
}

// OpenToken opens the token that the service wants.
func OpenToken(ctx context.Context, h isolate.Hello) (keystore.Token, error) {
	c, err := Config(h)
	if err != nil {
		return nil, err
	}
	token, err := pkcs11.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	return token, nil
}

// Config reads what the service wants opened.
func Config(h isolate.Hello) (pkcs11.Config, error) {
	var s settings
	d := json.NewDecoder(bytes.NewReader(h.Settings))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return pkcs11.Config{}, fmt.Errorf("%w: the settings of the worker process: %w", keystore.ErrInvalid, err)
	}
	return pkcs11.Config{
		Module: s.Module, TokenLabel: s.TokenLabel, Serial: s.Serial, URI: s.URI, PIN: h.PIN, Sessions: s.Sessions,
		SessionCopies: s.SessionCopies, SoftHSMConf: s.SoftHSMConf, Queue: s.Queue, Hang: s.Hang, Grace: s.Grace,
	}, nil
}
