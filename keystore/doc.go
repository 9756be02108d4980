// Package keystore names the keys of Signet and signs with them. The keys live in a hardware security module (HSM)
// or in SoftHSM; this package holds the rules that are the same for each of them, [Token] is the seam to the device.
//
// # The problem
//
// A signature that left the service must have been made by the key that was enrolled, inside the device, and by no
// other. Devices do not make that easy: after a restart an old object handle can mean another person's key, an
// attribute that was asked for can silently be missing, and a digest that is too long can be cut off. So nothing a
// device says is believed:
//
//   - a key is refused unless the attributes, as read back from the device, say that it was made there, cannot leave it
//     and can do nothing but sign ([CheckPolicy]);
//   - a signature is returned only after it verified against the public key that the caller enrolled ([Store.Sign]);
//   - a digest has the length that its algorithm wants, or it is not signed;
//   - a MAC is given out only together with a proof that the key is the recorded one, and that it gives the same answer twice
//     ([Store.MAC]);
//   - health is a real signature made with a key of its own ([Store.Health]), not the answer to a status call.
//
// # Wrong signatures
//
// A wrong signature is thrown away, whatever explains it. What explains it nearly always is a handle that means another
// key, so the device is set up anew ([Resetter]), once for all callers that were hit, and the signature is tried once more after the
// key has proved itself by signing something that means nothing. A key that stays wrong is refused alone; a device whose canary
// is wrong, too, or that is wrong again and again, is refused as a whole, and tried again after a second, two, four, up to a
// minute. It is let back in by good canaries, not by time alone. Status shows it as Refusing all the while: a person
// should look at why.
//
// # Several devices
//
// A Store is on one token, which can be made of several: [Replicas] hold the same keys and take over from each other within a
// call, [Route] sends keys of different roles to different tokens, [Lazy] is one that is only plugged in when it is
// needed. Each device below is judged for itself.
//
//	pair, err := keystore.Replicas(keystore.ReplicasConfig{}, first, second)
//	ca, err := keystore.Lazy(keystore.LazyConfig{Name: "the CA's token", Hint: "safe 2", Open: openCA})
//	token, err := keystore.Route(
//		keystore.Rule{Prefixes: []string{"ca-"}, Token: ca},
//		keystore.Rule{Prefixes: []string{""}, Token: pair})
//
// [Store.Watch] lets each device sign with its canary every few seconds and repeats the known-answer tests every day;
// [Store.Ready] and [Store.Status] say what came of it, [Store.Missing] which keys a replica does not have yet.
//
// # Names
//
// An [ID] is the label of a key, unique in its token and never used again. A [Key.KeyID] is the hex SHA-256 of the public
// key's SubjectPublicKeyInfo: it is what certificates, manifests and ledger entries carry, and it leads back to the
// entry that enrolled the key.
//
// # Use
//
//	token, err := pkcs11.Open(ctx, pkcs11.Config{Module: path, TokenLabel: "signet", PIN: keystore.PINFile(pinPath)})
//	store := keystore.New(token, keystore.Options{})
//	key, err := store.Generate(ctx, keystore.Spec{ID: "tsa-1", Algorithm: keystore.ECDSAP256})
//	signature, err := store.Sign(ctx, key.ID, key.Public, message)
package keystore
