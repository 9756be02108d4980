package conform

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
)

// errStopped says that no more entries are wanted.
var errStopped = errors.New("stopped")

// read returns the entries of some types, parsed. An error is the last that it returns.
func (r *run) read(types ...chain.Type) iter.Seq2[chain.Entry, error] {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return func(yield func(chain.Entry, error) bool) {
		err := r.each(0, names, func(e *signetv1.Entry) error {
			parsed, err := chain.ParseEntry(e.GetContent())
			if err != nil {
				return fmt.Errorf("entry %d: %w", e.GetIndex(), err)
			}
			if !yield(parsed, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(chain.Entry{}, err)
		}
	}
}

func (r *run) recordTypes() error {
	r.did("asked which kinds of records there are")
	list, err := signetv1.NewRecordServiceClient(r.conn).ListRecordTypes(r.ctx, &signetv1.ListRecordTypesRequest{})
	if err != nil {
		return err
	}
	var under []string
	for _, t := range list.GetRecordTypes() {
		if t.GetPart11() {
			under = append(under, t.GetId())
		}
	}
	if len(under) == 0 {
		return errors.New("of none of them it is said that Part 11 applies")
	}
	r.saw("it is said to apply to %d of %d: %s", len(under), len(list.GetRecordTypes()), strings.Join(under, ", "))
	return nil
}

func (r *run) letter() error {
	r.did("looked for the reference of the letter to the agency")
	reference, index := "", uint64(0)
	for e, err := range r.read(chain.SignerChanged) {
		if err != nil {
			return err
		}
		var body struct {
			Changes []struct {
				Field string `json:"field"`
				New   string `json:"new"`
			} `json:"changes"`
			ID string `json:"id"`
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		for _, c := range body.Changes {
			if body.ID == "" && c.Field == "letterReference" {
				reference, index = c.New, e.Index
			}
		}
	}
	switch {
	case reference != r.o.Config.Identity.LetterReference:
		return fmt.Errorf("the configuration says %q, and the ledger %q", r.o.Config.Identity.LetterReference, reference)
	case reference == "":
		return notExercised("none is set (identity.letterReference)")
	}
	r.saw("entry %d has it: %s", index, reference)
	return nil
}

func (r *run) components() error {
	all, later, err := componentsOf(r.read(chain.SignatureAttempted), r.o.Config.Identity.Preset == server.PresetOpen)
	r.did("read with what each of %d signatures was proved", all+later)
	if err != nil {
		return err
	}
	if all+later == 0 {
		return notExercised("nobody has signed yet")
	}
	r.saw("%d by user name and password, or more; %d within a continuous period of the same session, by the password at least", all, later)
	if r.o.Config.Identity.ContinuousSigning.Enabled {
		r.saw("continuous periods are on; every first signature of one took all components")
	} else {
		r.saw("continuous periods are off: every signature takes all components")
	}
	return nil
}

// componentsOf counts the signatures that took all components, and those that may take fewer since one in the same session did.
func componentsOf(list iter.Seq2[chain.Entry, error], passkeyAlone bool) (all, later int, err error) {
	begun := map[string]bool{}
	for e, err := range list {
		if err != nil {
			return all, later, err
		}
		var body struct {
			Components []string `json:"components"`
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			return all, later, fmt.Errorf("entry %d: %w", e.Index, err)
		}
		has := func(component string) bool { return slices.Contains(body.Components, component) }
		switch {
		case e.Actor.Kind != chain.Person || e.Actor.Session == "":
			return all, later, fmt.Errorf("entry %d: %s signed outside of a session of a person", e.Index, e.Actor.ID)
		case has("user name") && has("password"), passkeyAlone && has("passkey"):
			all++
			begun[e.Actor.Session] = true
		case has("password") && begun[e.Actor.Session]:
			later++
		default:
			return all, later, fmt.Errorf("entry %d: %s signed with %q alone", e.Index, e.Actor.ID, body.Components)
		}
	}
	return all, later, nil
}

func (r *run) twoPeople() error {
	me := r.me.GetSigner()
	r.did("as the administrator: asked for a new one-time code for oneself")
	_, err := signetv1.NewSignerServiceClient(r.conn).RenewSigner(r.ctx, &signetv1.RenewSignerRequest{
		Name: me.GetName(), Reason: "a conformance check", Proofing: &signetv1.IdentityProofing{Method: "none: a conformance check", Reference: "none"},
	})
	if code, _, _ := reasonOf(err); code != codes.PermissionDenied {
		return fmt.Errorf("it was answered with %s", refusal(err))
	}
	r.saw("%s", refusal(err))
	r.did("read who has proposed and who has confirmed each act that gives somebody a right")
	confirmed, err := confirmedByOthers(r.read(chain.ActConfirmed))
	if err != nil {
		return err
	}
	if r.o.Config.Identity.FourEyes == server.FourEyesOff {
		return errors.New("one administrator alone gives somebody a right: set identity.fourEyes to auto")
	}
	if confirmed == 0 {
		return notExercised("nothing took two administrators yet: they are needed from the second one on (identity.fourEyes: %s)", r.o.Config.Identity.FourEyes)
	}
	r.saw("%d acts were confirmed, each by another administrator than who had proposed it, and by nobody whom it was about", confirmed)
	return nil
}

// confirmedByOthers refuses an act that somebody has confirmed who proposed it, or whom it is about, and counts them.
func confirmedByOthers(list iter.Seq2[chain.Entry, error]) (confirmed int, err error) {
	for e, err := range list {
		if err != nil {
			return 0, err
		}
		var body struct {
			Proposer string `json:"proposer"`
			Subject  string `json:"subject"`
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			return 0, fmt.Errorf("entry %d: %w", e.Index, err)
		}
		if e.Actor.ID == body.Proposer || e.Actor.ID == body.Subject {
			return 0, fmt.Errorf("entry %d: %s has confirmed what they had proposed, or what is about them", e.Index, e.Actor.ID)
		}
		confirmed++
	}
	return confirmed, nil
}

func (r *run) biometrics() error {
	n := 0
	for e, err := range r.read(chain.PasskeyBound) {
		if err != nil {
			return err
		}
		if _, err := passkey.ParseBound(e.Body); err != nil { // strict: there is nothing else in it
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		n++
	}
	if n == 0 {
		return notExercised("nobody has a passkey; no other credential is based on biometrics")
	}
	r.did("read all that is kept of %d passkeys", n)
	r.saw("of each a public key, its owner, and who vouches for it; what a device recognises its owner by stays in the device")
	return nil
}

func (r *run) lost() error {
	r.did("read what those did afterwards who were revoked")
	revoked, err := quietAfterwards(r.read(chain.SignerRevoked, chain.SessionOpened, chain.SignatureAttempted))
	if err != nil {
		return err
	}
	if revoked == 0 {
		return notExercised("nobody was revoked yet")
	}
	r.saw("%d people were revoked; none of them has opened a session or signed since", revoked)
	return nil
}

// quietAfterwards refuses who does something after they were revoked, and counts those who were.
func quietAfterwards(list iter.Seq2[chain.Entry, error]) (revoked int, err error) {
	gone := map[string]uint64{}
	for e, err := range list {
		if err != nil {
			return 0, err
		}
		if e.Type == chain.SignerRevoked {
			body, err := manifest.ParseSignerRevoked(e.Body)
			if err != nil {
				return 0, fmt.Errorf("entry %d: %w", e.Index, err)
			}
			gone[body.ID] = e.Index
			continue
		}
		if at, ok := gone[e.Actor.ID]; ok {
			return 0, fmt.Errorf("entry %d: %s, who was revoked by entry %d, did something: %s", e.Index, e.Actor.ID, at, e.Type)
		}
	}
	return len(gone), nil
}
