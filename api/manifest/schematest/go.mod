module github.com/signetd/signet/api/manifest/schematest

go 1.27.0

toolchain go1.27.4

replace github.com/signetd/signet => ../../..

require (
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
	github.com/signetd/signet v0.0.0
)

require (
	github.com/klauspost/compress v1.20.3 // indirect
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
