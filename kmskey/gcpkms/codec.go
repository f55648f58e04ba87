// codec.go owns what keeps data keys out of the client's messages, which the client logs at level debug.

package gcpkms

import (
	"fmt"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// codec encodes and decodes the messages of one act. What it sends is what gRPC's own codec would send of the whole message.
type codec struct {
	// plaintext is the data key: of Encrypt from the start, the caller's own; of Decrypt once it was answered.
	plaintext []byte
	received  bool
}

func (c *codec) option() gax.CallOption { return gax.WithGRPCOptions(grpc.ForceCodec(c)) }

// Marshal puts the data key into what is sent.
func (c *codec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("gcpkms: internal error: a request of type %T", v)
	}
	if _, ok := m.(*kmspb.EncryptRequest); ok {
		whole := proto.Clone(m).(*kmspb.EncryptRequest)
		whole.Plaintext = c.plaintext // not a copy: nothing keeps whole
		m = whole
	}
	return proto.Marshal(m)
}

// Unmarshal takes the data key out of what is received.
func (c *codec) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("gcpkms: internal error: an answer of type %T", v)
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return err
	}
	if answer, ok := m.(*kmspb.DecryptResponse); ok {
		c.plaintext, c.received, answer.Plaintext = answer.Plaintext, true, nil
	}
	return nil
}

// Name is empty so that the content type is gRPC's ordinary one.
func (c *codec) Name() string { return "" }

// clear overwrites the data key of an answer.
func (c *codec) clear() {
	if c.received {
		clear(c.plaintext)
	}
}
