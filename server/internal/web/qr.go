package web

import (
	"errors"
	"fmt"
	"image/color"
	"strings"

	"github.com/pquerna/otp"
)

// qrCode is a QR code as a drawing: one path over a field of Side by Side modules, the quiet zone included. It is drawn in the page itself,
// so that the secret in it is in no other answer, and in no cache.
type qrCode struct {
	Side int
	Path string
}

const quiet = 4 // modules around a QR code (ISO/IEC 18004)

// encodeQR draws an otpauth URI.
func encodeQR(uri string) (qrCode, error) {
	key, err := otp.NewKeyFromURL(uri)
	if err != nil {
		return qrCode{}, fmt.Errorf("the URI of the one-time codes: %w", err)
	}
	for side := 21; side <= 177; side += 4 { // the sizes of versions 1 to 40: at its own, each module is one pixel
		img, err := key.Image(side, side)
		if err != nil {
			continue // too small
		}
		var b strings.Builder
		for y := range side {
			for x := 0; x < side; x++ {
				from := x
				for x < side && color.GrayModel.Convert(img.At(x, y)).(color.Gray).Y < 128 {
					x++
				}
				if x > from {
					fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", from+quiet, y+quiet, x-from, x-from)
				}
			}
		}
		return qrCode{Side: side + 2*quiet, Path: b.String()}, nil
	}
	return qrCode{}, errors.New("the URI of the one-time codes does not fit into a QR code")
}
