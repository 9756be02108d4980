package server

import signetv1 "github.com/signetd/signet/api/signet/v1"

type credentialService struct {
	signetv1.UnsafeCredentialServiceServer // the compiler asks for every method
	*Server
}
