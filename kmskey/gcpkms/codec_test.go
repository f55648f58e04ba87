package gcpkms

import (
	"bytes"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/protobuf/proto"
)

// TestCodec: what is sent is the whole message in gRPC's own encoding; of an answer the data key is taken out, and overwritten in the end.
func TestCodec(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	bare := &kmspb.EncryptRequest{Name: "k", PlaintextCrc32C: checksum(key)}
	out := &codec{plaintext: key}
	sent, err := out.Marshal(bare)
	if err != nil || bare.Plaintext != nil {
		t.Fatal("the request that the client logs was changed", err)
	}
	var whole kmspb.EncryptRequest
	if err := proto.Unmarshal(sent, &whole); err != nil || !bytes.Equal(whole.Plaintext, key) || whole.Name != "k" {
		t.Error("the request was not sent whole", err)
	}
	out.clear()
	if key[0] != 7 {
		t.Error("the caller's data key was overwritten")
	}

	encoded, err := proto.Marshal(&kmspb.DecryptResponse{Plaintext: key, UsedPrimary: true})
	if err != nil {
		t.Fatal(err)
	}
	in, answer := &codec{}, &kmspb.DecryptResponse{}
	if err := in.Unmarshal(encoded, answer); err != nil || answer.Plaintext != nil || !answer.UsedPrimary || !bytes.Equal(in.plaintext, key) {
		t.Error("the answer that the client logs holds the data key, or it is lost", err)
	}
	in.clear()
	if !bytes.Equal(in.plaintext, make([]byte, 32)) {
		t.Error("the data key of the answer was not overwritten")
	}
	if _, err := out.Marshal("text"); err == nil {
		t.Error("a request that is no message was taken")
	}
	if err := in.Unmarshal(nil, "text"); err == nil {
		t.Error("an answer that is no message was taken")
	}
}
