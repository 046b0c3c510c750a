"""Go on from a video's last frame for as long as is asked, and stay alive."""
