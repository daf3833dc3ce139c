// Verifier asks containerd's own bindir plug-in about one image: verifier FOLDER NAME DIGEST SECONDS.
// It prints the judgement as JSON, or fails as a pull would.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/containerd/containerd/v2/pkg/imageverifier/bindir"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	limit, err := time.ParseDuration(os.Args[4])
	fail(err)
	config := bindir.Config{BinDir: os.Args[1], MaxVerifiers: 10}
	fail(config.PerVerifierTimeout.UnmarshalText([]byte(limit.String())))
	descriptor := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest,
		Digest:    digest.Digest(os.Args[3]),
		Size:      1,
	}
	judgement, err := bindir.NewImageVerifier(&config).VerifyImage(context.Background(), os.Args[2], descriptor)
	fail(err)
	fail(json.NewEncoder(os.Stdout).Encode(judgement))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
