// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Numbers a contract's events 1, 2, 3, ... so that an indexer can prove that a node left none out.
abstract contract Sequenced {
    /// @notice The number of the newest event; an indexer that has seen fewer is missing one.
    uint64 public lastSequence;

    function _next() internal returns (uint64 number) {
        unchecked {
            lastSequence = number = lastSequence + 1;
        }
    }
}

/// @notice A contract that holds FUNC: what it owes, beside the event number, since most calls move both and pay for one write.
abstract contract Ledgered is Sequenced {
    /// @dev What is owed to accounts.
    uint96 internal _owed;
    /// @dev What waits to be burned.
    uint96 internal _toBurn;

    /// @notice What the contract owes or has to burn, which must equal its token balance.
    function ledger() external view returns (uint256) {
        return uint256(_owed) + _toBurn;
    }
}
