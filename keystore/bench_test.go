package keystore_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

// ready is a device that has signed already.
type ready struct {
	*keystoretest.Fake
	epoch     uint64
	signature []byte
}

func (r *ready) Sign(context.Context, keystore.ID, keystore.Algorithm, []byte) ([]byte, error) {
	return r.signature, nil
}
func (r *ready) Epoch() uint64 { return r.epoch }

// BenchmarkOverhead is what the store, replicas and rules cost beside the device and the verification: compare it with
// the verification alone.
func BenchmarkOverhead(b *testing.B) {
	for _, a := range []keystore.Algorithm{keystore.ECDSAP256, keystore.Ed25519, keystore.RSAPSS} {
		fake := keystoretest.NewFake()
		maker := keystore.New(fake, keystore.Options{})
		key := keystoretest.Generate(b, maker, "k", a)
		signature, err := maker.Sign(b.Context(), key.ID, key.Public, message)
		if err != nil {
			b.Fatal(err)
		}
		token := func() keystore.Token { return &ready{Fake: fake, epoch: 1, signature: signature} }
		sign := func(token keystore.Token) func() error {
			store := keystore.New(token, keystore.Options{})
			return func() error {
				_, err := store.Sign(b.Context(), key.ID, key.Public, message)
				return err
			}
		}
		for _, c := range []struct {
			name string
			run  func() error
		}{
			{"verify", func() error { return keystore.Verify(a, key.Public, message, signature) }},
			{"store", sign(token())},
			{"route", sign(route(b, keystore.Rule{Prefixes: []string{"signer-"}, Token: keystoretest.NewFake()}, keystore.Rule{Prefixes: []string{""}, Token: token()}))},
			{"replicas", sign(replicas(b, keystore.ReplicasConfig{}, token(), token()))},
		} {
			b.Run(fmt.Sprintf("%s/%s", a, c.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := c.run(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
