package conform

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// public are the methods that anybody may call, since they ask for a proof of their own: what they say without one.
var public = map[protoreflect.FullName]codes.Code{
	"signet.v1.SessionService.OpenSession":     codes.InvalidArgument,
	"signet.v1.SignerService.RedeemEnrollment": codes.InvalidArgument,
}

func (r *run) denyByDefault() error {
	n := 0
	var wrong []error
	call := func(m protoreflect.MethodDescriptor) error {
		name := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
		in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
		if !m.IsStreamingClient() && !m.IsStreamingServer() {
			return r.conn.Invoke(r.plain, name, in, out)
		}
		ctx, cancel := context.WithTimeout(r.plain, r.o.Patience)
		defer cancel()
		s, err := r.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}, name)
		if err != nil {
			return err
		}
		_ = s.SendMsg(in) // what is wrong comes with the answer
		_ = s.CloseSend()
		return s.RecvMsg(out)
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("signet.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				n++
				want, ok := public[m.FullName()]
				if !ok {
					want = codes.Unauthenticated
				}
				if code, reason, _ := reasonOf(call(m)); code != want {
					wrong = append(wrong, fmt.Errorf("%s: %s (%s), want %s", m.FullName(), code, reason, want))
				}
			}
		}
		return true
	})
	r.did("called each of %d methods without a session and without a client certificate", n)
	if n < 30 {
		return fmt.Errorf("only %d methods are known", n)
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	r.saw("%d were refused with Unauthenticated; the %d that ask for a proof of their own took nothing without one", n-len(public), len(public))
	return nil
}

func (r *run) forgedSession() error {
	r.did("called WhoAmI with a session token of random bits")
	_, err := signetv1.NewSessionServiceClient(r.conn).WhoAmI(withToken(r.plain, rand.Text()+rand.Text()), &signetv1.WhoAmIRequest{})
	if code, _, _ := reasonOf(err); code != codes.Unauthenticated {
		return fmt.Errorf("it was answered with %s", refusal(err))
	}
	r.saw("%s", refusal(err))
	return nil
}

func (r *run) separateRights() error {
	if slices.Contains(r.me.GetSigner().GetRoles(), signetv1.Role_ROLE_SIGNER) {
		return notExercised("the administrator is a signer, too; run it as one who is not")
	}
	signing := signetv1.NewSigningServiceClient(r.conn)
	from, err := r.size()
	if err != nil {
		return err
	}
	r.did("as the administrator: called Prepare and Sign")
	_, prepare := signing.Prepare(r.ctx, &signetv1.PrepareRequest{
		Record: "records/00000000-0000-7000-8000-000000000000", Decision: signetv1.Decision_DECISION_APPROVE, Meaning: "release-approval", Reason: "a conformance check",
	})
	_, sign := signing.Sign(r.ctx, &signetv1.SignRequest{Preparation: "preparations/prp_0", StatementSha256: make([]byte, 32), Password: r.o.Credentials})
	for what, err := range map[string]error{"Prepare": prepare, "Sign": sign} {
		if code, _, _ := reasonOf(err); code != codes.PermissionDenied {
			return fmt.Errorf("%s was answered with %s", what, refusal(err))
		}
	}
	r.saw("both were refused: %s", refusal(sign))
	var denied int
	if _, err := r.until(func() (bool, error) {
		list, err := r.entries(from, "access.denied")
		denied = len(list)
		return denied >= 2, err
	}); err != nil {
		return err
	}
	if denied < 2 {
		return fmt.Errorf("%d entries access.denied, want 2", denied)
	}
	r.saw("the ledger has both refusals (access.denied)")
	return nil
}

func (r *run) transport() error {
	if r.o.OldTLS == nil || len(r.o.Listeners) == 0 {
		return notExercised("no connection with an older version could be tried")
	}
	for _, address := range r.o.Listeners {
		r.did("connected to %s with TLS 1.2 at the most", address)
		err := r.o.OldTLS(r.plain, address)
		if err == nil {
			return fmt.Errorf("%s speaks TLS 1.2", address)
		}
		if !versionRefused(err) { // a listener that does not answer has shown nothing
			return fmt.Errorf("it is not known whether %s speaks TLS 1.2: %w", address, err)
		}
		r.saw("the handshake failed: %v", err)
	}
	return nil
}

// versionRefused tells whether a peer has refused the version of TLS (RFC 8446, section 6.2: protocol_version), and not something else.
func versionRefused(err error) bool {
	var remote *net.OpError
	return errors.As(err, &remote) && remote.Op == "remote error" && strings.Contains(remote.Err.Error(), "protocol version")
}

func (r *run) sources() error {
	r.did("listed the open sessions of the administrator")
	s, err := signetv1.NewSessionServiceClient(r.conn).ListSessions(r.ctx, &signetv1.ListSessionsRequest{})
	if err != nil {
		return err
	}
	for _, one := range s.GetSessions() {
		if !one.GetCurrent() {
			continue
		}
		if one.GetAddress() == "" {
			return errors.New("the address of this session is not kept: set identity.sources to keep it")
		}
		r.saw("this session: from %s, %s, opened %s", one.GetAddress(), one.GetDevice(), one.GetCreateTime().AsTime().Format(time.RFC3339))
		return nil
	}
	return errors.New("this session is not in the list")
}
