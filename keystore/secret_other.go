//go:build !unix

package keystore

const nonblock = 0
