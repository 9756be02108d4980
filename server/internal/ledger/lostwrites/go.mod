module github.com/signetd/signet/server/internal/ledger/lostwrites

go 1.27.0

toolchain go1.27.4

require (
	github.com/hanwen/go-fuse/v2 v2.12.1
	github.com/signetd/signet v0.0.0-00010101000000-000000000000
)

require (
	go.etcd.io/bbolt v1.5.0 // indirect
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/signetd/signet => ../../../..
