// generate.go owns data keys that the service draws, and dry runs.

package awskmstest

import "crypto/rand"

func generateDataKey(s *Server, c caller, body []byte) (any, error) {
	return s.generate(c, "kms:GenerateDataKey", body, true)
}

func generateDataKeyWithoutPlaintext(s *Server, c caller, body []byte) (any, error) {
	return s.generate(c, "kms:GenerateDataKeyWithoutPlaintext", body, false)
}

func (s *Server) generate(c caller, action string, body []byte, show bool) (any, error) {
	var in struct {
		KeyId             string
		KeySpec           string
		NumberOfBytes     *int
		EncryptionContext map[string]string
		GrantTokens       []string
		DryRun            bool
	}
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	var n int
	switch {
	case (in.KeySpec == "") == (in.NumberOfBytes == nil):
		return nil, invalid("Please specify either number of bytes or key spec.")
	case in.KeySpec == "AES_256":
		n = 32
	case in.KeySpec == "AES_128":
		n = 16
	case in.KeySpec != "" || *in.NumberOfBytes < 1 || *in.NumberOfBytes > 1024:
		return nil, invalid("Value at 'keySpec' or 'numberOfBytes' failed to satisfy constraint")
	default:
		n = *in.NumberOfBytes
	}
	if err := firstError(checkContext(in.EncryptionContext), s.checkTokens(in.GrantTokens)); err != nil {
		return nil, err
	}
	k, err := s.findFor(c.asking(in.GrantTokens, in.EncryptionContext), action, in.KeyId)
	if err == nil {
		err = k.usable()
	}
	if err == nil && in.DryRun {
		err = dryRun()
	}
	if err != nil {
		return nil, err
	}
	plaintext := make([]byte, n)
	rand.Read(plaintext) // never fails
	out := sealed{CiphertextBlob: k.seal(plaintext, in.EncryptionContext), KeyId: k.arn}
	if show {
		out.Plaintext = plaintext
	}
	return out, nil
}

// dryRun is the answer to a request that would have succeeded.
func dryRun() error {
	return &Fault{Code: "DryRunOperationException", Message: "The request would have succeeded, but the DryRun option is set."}
}

// ignoresCiphertext reads the modifiers of a dry run.
func ignoresCiphertext(dry bool, modifiers []string) (bool, error) {
	switch {
	case len(modifiers) == 0:
		return false, nil
	case !dry || len(modifiers) > 1 || modifiers[0] != "IGNORE_CIPHERTEXT":
		return false, invalid("Value at 'dryRunModifiers' failed to satisfy constraint")
	}
	return true, nil
}

// tries is a dry run without a ciphertext: the permission and the key's state are all that is looked at.
func (s *Server) tries(c caller, action, keyID string) error {
	k, err := s.findFor(c, action, keyID)
	if err == nil {
		err = k.usable()
	}
	return err
}
