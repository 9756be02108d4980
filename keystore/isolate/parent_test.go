package isolate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/isolate"
	"github.com/signetd/signet/keystore/isolate/worker"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
)

// parentCommand makes the test program a service with worker processes that signs until it is killed.
const parentCommand = "parent-of-workers"

func parent() {
	var c pkcs11.Config
	if err := json.Unmarshal([]byte(os.Args[2]), &parentSettings{&c.Module, &c.SoftHSMConf, &c.TokenLabel}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	c.PIN = keystore.PINFixed(keystore.NewSecret(keystoretest.PIN))
	ctx := context.Background()
	token, err := worker.Open(ctx, c, isolate.Config{Command: isolate.Self(workerCommand), Processes: 2})
	if err == nil {
		_, err = token.Generate(ctx, keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var known sync.WaitGroup
	for range 8 {
		known.Add(1)
		go func() {
			for n := 0; ; n++ {
				_, _ = token.Sign(ctx, "k", keystore.ECDSAP256, make([]byte, 32))
				if n == 20 { // both processes know the key by now
					known.Done()
				}
			}
		}()
	}
	known.Wait()
	fmt.Println("ready")
	select {}
}

// parentSettings are what the parent needs of a configuration.
type parentSettings struct{ Module, SoftHSMConf, TokenLabel *string }
