"""The words everybody uses: ids, errors, frames, events, views and the codec. No I/O."""
