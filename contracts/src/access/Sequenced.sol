// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Numbers a contract's events 1, 2, 3, ... so that an indexer can prove that a node left none out.
abstract contract Sequenced {
    /// @notice The number of the newest event; an indexer that has seen fewer is missing one.
    uint64 public lastSequence;

    function _next() internal returns (uint64) {
        return ++lastSequence;
    }
}
