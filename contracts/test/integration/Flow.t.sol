// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReceiptLib} from "../../src/libraries/ReceiptLib.sol";
import {Network} from "../utils/Network.t.sol";

/// @notice A job from deposit to payout, then one from lie to slash.
contract FlowTest is Network {
    function test_flow__honest_then_cheat__everyone_gets_what_is_due() public {
        _registerModel(500);
        _joinProvider();
        _joinVerifiers();
        _attest();
        _fundPayer(100 ether);
        _bond(50 ether, 50 ether);

        uint64 honest = _anchor(_receipt(1, 10 ether));
        uint64 epoch = verifiers.currentEpoch();
        skip(10);
        for (uint256 i; i < VERIFIERS; ++i) {
            vm.prank(judges[i]);
            verifiers.postDuties(epoch, "root", 1);
        }
        skip(51);
        _redeem(10 ether);
        uint256 net = settlement.release(owner, honest);
        assertEq(net, 8.7 ether);

        ReceiptLib.Receipt memory lie = _receipt(2, 10 ether);
        uint64 batchId = _anchor(lie);
        _redeem(20 ether);
        uint256 id = _openDispute(lie, batchId, judges[0]);
        _verdict(id, true);
        assertEq(escrow.depositOf(payer).balance, 80 ether + 8.7 ether);
        assertEq(token.balanceOf(creator), 1 ether);
        for (uint256 i; i < VERIFIERS; ++i) {
            vm.prank(judges[i]);
            disputes.withdraw();
        }
        assertEq(disputes.ledger(), 0);
        _assertLedgers();
    }
}
